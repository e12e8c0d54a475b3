# One timed fit by R's lme4, for bench_mixed.py: Rscript time_lme4.R TABLE.csv FORMULA, prints JSON.
#
# Timed as the Python fits are: the fit, then its log-likelihood, coefficients, standard errors and variances; not R's
# start, not the reading of the table. A small fit goes first, so that nothing is compiled while the clock runs.

suppressPackageStartupMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
data <- read.csv(arguments[1], stringsAsFactors = TRUE)
formula <- as.formula(arguments[2])

whole <- function(rows) {
  fit <- lmer(formula, rows, REML = TRUE)
  list(llf = as.numeric(logLik(fit)), fixed = fixef(fit), errors = sqrt(diag(as.matrix(vcov(fit)))),
       components = as.data.frame(VarCorr(fit)))
}

small <- data[data$sentence %in% head(unique(data$sentence), 10), ]
invisible(suppressMessages(suppressWarnings(whole(small))))
times <- system.time(found <- whole(data))
run <- found$components$sdcor[found$components$grp == "run"]
cat(sprintf('{"wall": %.6f, "process": %.6f, "llf": %.9f, "run_sd": %.12g, "lme4": "%s", "R": "%s"}\n',
            times[["elapsed"]], times[["user.self"]] + times[["sys.self"]], found$llf, run,
            packageVersion("lme4"), getRversion()))
