//! Checks whether a directive may have a block.

use hpkp_core::finding::Finding;
use hpkp_core::text::Excerpt;

use super::super::problem::{Read, invalid};
use super::tree::Directive;

/// An error if the directive has a block.
pub(super) fn without_block(directive: &Directive) -> Read<()> {
    match directive.block {
        None => Ok(()),
        Some(_) => {
            let name = Excerpt::new(directive.name());
            Err(invalid(&directive.at, format!("directive \"{name}\" is not terminated by \";\"")))
        }
    }
}

/// The error for a directive that requires a block and has none.
pub(super) fn no_block(directive: &Directive) -> Box<Finding> {
    let name = Excerpt::new(directive.name());
    invalid(&directive.at, format!("directive \"{name}\" has no opening \"{{\""))
}
