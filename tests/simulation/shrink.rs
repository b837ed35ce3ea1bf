//! Makes a failing plan short: whatever can be left out without the failure going away is left out.

use crate::plan::Plan;
use crate::world::{Failure, check};

/// Runs spent on one plan.
const RUNS_MAX: usize = 600;

/// The shortest failing plan found, and how it fails.
pub fn shrink(plan: &Plan, failure: Failure) -> (Plan, Failure) {
    let (mut best, mut failure) = (plan.clone(), failure);
    // Nothing behind the step that failed matters, as long as the end is not what fails.
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
