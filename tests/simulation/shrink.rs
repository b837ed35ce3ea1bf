//! Shortens a failing plan: every step is left out that the failure does not need.

use crate::plan::Plan;
use crate::world::{Failure, check};

/// Runs for one plan.
const RUNS_MAX: usize = 600;

/// The shortest failing plan found, and its failure.
pub fn shrink(plan: &Plan, failure: Failure) -> (Plan, Failure) {
    let (mut best, mut failure) = (plan.clone(), failure);
    // Steps after the failing one do not matter, unless the end of the run is what fails.
    if failure.step < best.steps.len() {
        best.steps.truncate(failure.step + 1);
    }
    let mut runs = 0;
    let mut chunk = best.steps.len().div_ceil(2);
    while chunk > 0 && runs < RUNS_MAX {
        let mut start = 0;
        let mut is_shorter = false;
        while start < best.steps.len() && runs < RUNS_MAX {
            let mut shorter = best.clone();
            shorter.steps.drain(start..(start + chunk).min(best.steps.len()));
            runs += 1;
            if let Err(still) = check(&shorter, true) {
                (best, failure) = (shorter, still);
                is_shorter = true;
            } else {
                start += chunk;
            }
        }
        if chunk > 1 || !is_shorter {
            chunk /= 2;
        }
    }
    (best, failure)
}
