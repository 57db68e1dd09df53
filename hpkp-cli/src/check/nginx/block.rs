//! Whether a directive may have a block.

use hpkp_core::finding::Finding;
use hpkp_core::text::Excerpt;

use super::super::problem::{Read, invalid};
use super::tree::Directive;

/// An error unless a directive ends with a semicolon.
pub(super) fn without_block(directive: &Directive) -> Read<()> {
    match directive.block {
        None => Ok(()),
        Some(_) => {
            let name = Excerpt::new(directive.name());
            Err(invalid(&directive.at, format!("directive \"{name}\" is not terminated by \";\"")))
        }
    }
}

/// The error of a directive that has no block.
pub(super) fn no_block(directive: &Directive) -> Box<Finding> {
    let name = Excerpt::new(directive.name());
    invalid(&directive.at, format!("directive \"{name}\" has no opening \"{{\""))
}
