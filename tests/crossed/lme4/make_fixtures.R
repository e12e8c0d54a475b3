# The figures of R's lme4 and lmerTest that tests/crossed/test_lme4.py holds crossed against.
#
#     Rscript make_fixtures.R                  # refit the tables beside this script, write expected.json beside it
#     Rscript make_fixtures.R FOLDER           # read the tables of FOLDER and write expected.json there
#     Rscript make_fixtures.R FOLDER simulate  # first simulate the tables anew
#
#     Rscript make_fixtures.R - penicillin     # fit lme4's own Penicillin data, print them and their fit as JSON
#
# The tables are simulated, each from its own seed below; none is a data set of lme4 or of a publication. Their numbers
# are rounded to six decimals and fitted as they stand in the files, so that both languages read the same ones.

suppressPackageStartupMessages({
  library(lme4)
  library(lmerTest)
  library(jsonlite)
})

# Tables -------------------------------------------------------------------------------------------------------------

labels <- function(letter, count) sprintf("%s%02d", letter, seq_len(count))

crossing <- function(seed, runs, sentences, checkpoints = 1) {
  suppressWarnings(RNGversion("4.0.0"))
  set.seed(seed)
  expand.grid(checkpoint = 1000 * seq_len(checkpoints), sentence = labels("s", sentences), run = labels("r", runs),
              stringsAsFactors = FALSE)[, c("run", "sentence", "checkpoint")]
}

# One normal value a level, repeated over the rows.
effects <- function(factor, sd) {
  levels <- unique(factor)
  unname(setNames(rnorm(length(levels), 0, sd), levels)[factor])
}

balanced <- function() {
  d <- crossing(11, 6, 40)
  d$x <- rnorm(nrow(d), 10, 2)
  d$y <- 3 + 0.2 * d$x + effects(d$run, 0.6) + effects(d$sentence, 1) + rnorm(nrow(d), 0, 0.7)
  d[, c("run", "sentence", "x", "y")]
}

unbalanced <- function() {
  d <- crossing(12, 8, 30)
  d$kind <- sample(c("a", "b", "c"), nrow(d), replace = TRUE, prob = c(0.5, 0.3, 0.2))
  d$x <- rnorm(nrow(d), 0, 1) + 0.5 * effects(d$sentence, 1)
  d$y <- 20 + 1.5 * d$x + 2 * (d$kind == "b") + effects(d$run, 1.5) + effects(d$sentence, 2) + rnorm(nrow(d), 0, 1.2)
  # A third of the cells is missing, more in later runs; some of the others hold two values.
  keep <- runif(nrow(d)) > as.integer(substr(d$run, 2, 3)) / 16
  twice <- which(keep & runif(nrow(d)) < 0.1)
  again <- d[twice, ]
  again$y <- again$y + rnorm(nrow(again), 0, 1.2)
  d <- rbind(d[keep, ], again)
  d[, c("run", "sentence", "kind", "x", "y")]
}

interaction <- function() {
  d <- crossing(13, 5, 20, 4)
  d$y <- 0.4 + effects(d$run, 0.05) + effects(d$sentence, 0.08) + effects(paste(d$run, d$sentence), 0.04) +
    rnorm(nrow(d), 0, 0.03)
  d <- d[runif(nrow(d)) > 0.15, ]
  d <- d[!(d$run == "r03" & d$sentence == "s07"), ]  # one cell quite empty
  d[, c("run", "sentence", "checkpoint", "y")]
}

slopes <- function() {
  d <- crossing(14, 18, 25)
  d$x <- rnorm(nrow(d), 3, 1.5)
  spread <- rnorm(18, 0, 0.5)
  tilt <- -0.5 * spread + rnorm(18, 0, 0.3)
  place <- as.integer(substr(d$run, 2, 3))
  d$y <- 1 + 0.8 * d$x + spread[place] + tilt[place] * d$x + effects(d$sentence, 0.9) + rnorm(nrow(d), 0, 1)
  d <- d[runif(nrow(d)) > 0.1, ]
  d[, c("run", "sentence", "x", "y")]
}

boundary <- function() {
  d <- crossing(15, 4, 30)
  d$x <- rnorm(nrow(d))
  noise <- rnorm(nrow(d))
  # Runs alike beyond what chance gives: most of the difference between their means is taken out.
  d$y <- 2 + 0.5 * d$x + effects(d$sentence, 0.8) + noise - 0.9 * ave(noise, d$run)
  d <- d[-c(5, 17, 61, 90), ]
  d[, c("run", "sentence", "x", "y")]
}

aligned <- function() {
  d <- crossing(18, 6, 25)
  d$x <- rnorm(nrow(d), 1, 1)
  spread <- effects(d$run, 1)
  d$y <- 5 + 0.4 * d$x + spread + 0.5 * spread * d$x + effects(d$sentence, 0.7) + rnorm(nrow(d), 0, 1.5)
  d <- d[runif(nrow(d)) > 0.1, ]
  d[, c("run", "sentence", "x", "y")]
}

three <- function() {
  d <- crossing(16, 6, 15, 5)
  d$x <- rnorm(nrow(d), 0, 2)
  d$y <- 30 + 0.3 * d$x + effects(d$run, 1) + effects(d$sentence, 3) + effects(as.character(d$checkpoint), 0.8) +
    rnorm(nrow(d), 0, 2)
  d <- d[runif(nrow(d)) > 0.2, ]
  d[, c("run", "sentence", "checkpoint", "x", "y")]
}

assay <- function() {
  d <- crossing(17, 24, 6)
  names(d)[1:2] <- c("plate", "sample")
  d$diameter <- round(23 + effects(d$plate, 0.85) + effects(d$sample, 1.9) + rnorm(nrow(d), 0, 0.55))
  d[, c("plate", "sample", "diameter")]
}

tables <- list(balanced = balanced, unbalanced = unbalanced, interaction = interaction, slopes = slopes,
               boundary = boundary, aligned = aligned, three = three, assay = assay)

simulate <- function(folder) {
  for (name in names(tables)) {
    d <- tables[[name]]()
    for (column in names(d)) if (is.numeric(d[[column]])) d[[column]] <- round(d[[column]], 6)
    write.csv(d, file.path(folder, paste0(name, ".csv")), row.names = FALSE, quote = FALSE)
  }
}

# Fits ---------------------------------------------------------------------------------------------------------------

cases <- list(
  list(name = "crossed balanced", table = "balanced", formula = "y ~ 1 + (1 | run) + (1 | sentence)", profile = TRUE),
  list(name = "crossed balanced, predictor", table = "balanced", formula = "y ~ x + (1 | run) + (1 | sentence)"),
  list(name = "assay", table = "assay", formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"),
  list(name = "crossed unbalanced", table = "unbalanced", formula = "y ~ x + (1 | run) + (1 | sentence)",
       profile = TRUE),
  list(name = "categorical predictor", table = "unbalanced", formula = "y ~ kind * x + (1 | run) + (1 | sentence)"),
  list(name = "one factor", table = "unbalanced", formula = "y ~ x + (1 | run)"),
  list(name = "interaction", table = "interaction",
       formula = "y ~ 1 + (1 | run) + (1 | sentence) + (1 | run:sentence)"),
  list(name = "nested", table = "interaction", formula = "y ~ 1 + (1 | run/sentence)"),
  list(name = "correlated slopes", table = "slopes", formula = "y ~ x + (x | run) + (1 | sentence)"),
  list(name = "uncorrelated slopes", table = "slopes", formula = "y ~ x + (x || run) + (1 | sentence)"),
  list(name = "slopes only", table = "slopes", formula = "y ~ x + (0 + x | run) + (1 | sentence)"),
  list(name = "boundary", table = "boundary", formula = "y ~ x + (1 | run) + (1 | sentence)"),
  list(name = "boundary, correlation", table = "aligned", formula = "y ~ x + (x | run) + (1 | sentence)"),
  list(name = "three factors", table = "three", formula = "y ~ x + (1 | run) + (1 | sentence) + (1 | checkpoint)",
       profile = TRUE)
)

# Tighter than lme4's defaults, which stop where variances are right to about three figures; the likelihood is smooth in
# theta, and what is stored should be its maximum and not where one search ended.
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5),
                       calc.derivs = FALSE, check.conv.singular = "ignore")

figures <- function(formula, data, reml) {
  fit <- lmerTest::lmer(as.formula(formula), data, REML = reml, control = control)
  fixed <- coef(summary(fit, ddf = "Satterthwaite"))
  components <- as.data.frame(VarCorr(fit))
  predicted <- ranef(fit, condVar = FALSE)
  list(
    llf = as.numeric(logLik(fit)),
    aic = AIC(fit),
    bic = BIC(fit),
    params = unname(fixed[, "Estimate"]),
    bse = unname(fixed[, "Std. Error"]),
    df = unname(fixed[, "df"]),
    pvalues = unname(fixed[, "Pr(>|t|)"]),
    vcomp = data.frame(
      group = sub("\\.[0-9]+$", "", components$grp),  # (x || run) is written "run" and "run.1"
      term = sub("(Intercept)", "Intercept", components$var1, fixed = TRUE),
      term2 = components$var2,
      variance = components$vcov,
      sd = components$sdcor
    ),
    random_effects = lapply(predicted, function(part) {
      names(part) <- sub("(Intercept)", "Intercept", names(part), fixed = TRUE)
      list(levels = rownames(part), effects = as.list(part))
    }),
    singular = isSingular(fit)
  )
}

both <- function(formula, data) {
  list(reml = figures(formula, data, TRUE), ml = figures(formula, data, FALSE))
}

# 95 % intervals of the SDs by lme4's profile likelihood, which is always that of maximum likelihood.
profiled <- function(formula, data) {
  fit <- lme4::lmer(as.formula(formula), data, REML = FALSE, control = control)
  found <- confint(fit, parm = "theta_", method = "profile", oldNames = FALSE, quiet = TRUE)
  names <- rownames(found)
  # "sd_(Intercept)|run", "sigma"
  stopifnot(is.finite(found))
  data.frame(group = ifelse(names == "sigma", "Residual", sub("^sd_.*\\|", "", names)),
             lower = unname(found[, 1]), upper = unname(found[, 2]))
}

versions <- function() {
  list(R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4")),
       lmerTest = as.character(packageVersion("lmerTest")))
}

written <- function(value) toJSON(value, digits = NA, auto_unbox = TRUE, na = "null", pretty = 1)

arguments <- commandArgs(trailingOnly = TRUE)
script <- sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))
folder <- if (length(arguments) > 0) arguments[1] else dirname(script)
task <- if (length(arguments) > 1) arguments[2] else "fit"

if (task == "penicillin") {
  fit <- both("diameter ~ 1 + (1 | plate) + (1 | sample)", Penicillin)
  cat(written(list(versions = versions(), data = Penicillin, fit = fit)), "\n")
} else if (task %in% c("fit", "simulate")) {
  if (task == "simulate") simulate(folder)
  fitted <- lapply(cases, function(case) {
    data <- read.csv(file.path(folder, paste0(case$table, ".csv")), stringsAsFactors = TRUE)
    extra <- if (is.null(case$profile)) list() else list(profile = profiled(case$formula, data))
    c(case[c("name", "table", "formula")], list(rows = nrow(data)), both(case$formula, data), extra)
  })
  cat(written(list(versions = versions(), cases = fitted)), "\n", file = file.path(folder, "expected.json"), sep = "")
} else {
  stop("make_fixtures.R: '", task, "' is none of fit, simulate and penicillin.")
}
