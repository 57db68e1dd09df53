//! Reduces a history to the smallest one with the same kind of disagreement, and prints it.

use std::fmt::Write as _;

use crate::core::Core;
use crate::history::{Disagreement, Step, Wrong, run};
use crate::world::{Block, Config};

fn shows(steps: &[Step], wrong: Wrong) -> Option<Disagreement> {
    run(Core::new(), steps).1.filter(|disagreement| disagreement.wrong == wrong)
}

/// Removes every part without which the disagreement remains.
pub fn minimise(mut steps: Vec<Step>, wrong: Wrong) -> (Vec<Step>, Disagreement) {
    let mut last = shows(&steps, wrong).expect("what was found is found again");
    loop {
        let smaller = smaller(&steps).into_iter().find_map(|fewer| {
            let disagreement = shows(&fewer, wrong)?;
            Some((fewer, disagreement))
        });
        match smaller {
            Some((fewer, disagreement)) => (steps, last) = (fewer, disagreement),
            None => return (steps, last),
        }
    }
}

/// Removes a part of a block; returns whether the block stays.
type Change = Box<dyn Fn(&mut Block) -> bool>;

/// All removals that are possible in a block.
fn changes(block: &Block) -> Vec<Change> {
    let pins = block.policy.as_ref().map_or(0, |policy| policy.pins.len());
    let without_pin = |pin: usize| -> Change {
        Box::new(move |block| {
            if let Some(policy) = block.policy.as_mut().filter(|policy| policy.pins.len() > 2) {
                policy.pins.remove(pin);
            }
            true
        })
    };
    let mut changes: Vec<Change> = vec![
        Box::new(|_| false),
        Box::new(|block| {
            block.policy = None;
            true
        }),
    ];
    changes.extend((0..pins).map(without_pin));
    changes.push(Box::new(|block| {
        block.slots.truncate(1);
        block.is_default = false;
        if let Some(policy) = &mut block.policy {
            policy.include_subdomains = false;
        }
        true
    }));
    changes.push(Box::new(|block| {
        block.ports.truncate(1);
        true
    }));
    changes.push(Box::new(|block| {
        if block.names.len() > 1 {
            block.names.pop();
        }
        true
    }));
    changes
}

/// All histories that lack one thing.
fn smaller(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    for at in (0..steps.len()).rev() {
        let mut fewer = steps.to_vec();
        fewer.remove(at);
        all.push(fewer);
    }
    let is_empty = |step: &Step| config_of(step).is_some_and(|config| config.blocks.is_empty());
    // A change is applied in all steps, so that an unchanged block stays unchanged.
    for at in 0..steps.len() {
        let Some(config) = config_of(&steps[at]) else { continue };
        for block in &config.blocks {
            for change in changes(block) {
                let apply = |config: &mut Config| {
                    config.blocks.retain_mut(|other| other != block || change(other));
                };
                let mut fewer = steps.to_vec();
                fewer.iter_mut().filter_map(config_of_mut).for_each(apply);
                let is_same = fewer.iter().zip(steps).all(|(a, b)| config_of(a) == config_of(b));
                if is_same || fewer.iter().any(is_empty) {
                    continue;
                }
                all.push(fewer);
                // The change in this step only.
                let mut here = steps.to_vec();
                config_of_mut(&mut here[at]).into_iter().for_each(apply);
                if !here.iter().any(is_empty) {
                    all.push(here);
                }
            }
        }
        if !config.not_served_here.is_empty() {
            let mut fewer = steps.to_vec();
            fewer.iter_mut().filter_map(config_of_mut).for_each(|c| c.not_served_here.clear());
            all.push(fewer);
        }
    }
    all
}

fn config_of(step: &Step) -> Option<&Config> {
    match step {
        Step::Deploy { config, .. } | Step::Peer(config) | Step::Force(config) => Some(config),
        _ => None,
    }
}

fn config_of_mut(step: &mut Step) -> Option<&mut Config> {
    match step {
        Step::Deploy { config, .. } | Step::Peer(config) | Step::Force(config) => Some(config),
        _ => None,
    }
}

/// A history and its disagreement as text.
pub fn story(seed: u64, steps: &[Step], disagreement: &Disagreement) -> String {
    let mut story =
        format!("seed {seed}: {:?} at step {}\n", disagreement.wrong, disagreement.step);
    for (number, step) in steps.iter().enumerate() {
        let _ = writeln!(story, "  {number}. {step}");
    }
    for reason in disagreement.reasons.iter().take(1) {
        let _ = writeln!(story, "  the oracle: {reason}");
    }
    for finding in &disagreement.findings {
        let _ = writeln!(story, "  the check: {}", finding.chars().take(200).collect::<String>());
    }
    story
}
