//! The common frame of all pages.

use maud::{DOCTYPE, Markup, html};

use super::range::Range;
use crate::output::printable;

/// A page for readers. With a range, the header has the form for search and days.
pub(super) fn page(
    signs_out: bool,
    title: &str,
    range: Option<(&Range, &str)>,
    content: &Markup,
) -> Markup {
    let header = html! {
        @if let Some((range, action)) = range { (search(range, action)) }
        @if signs_out {
            form.out method="post" action="/logout" { button type="submit" { "Sign out" } }
        }
    };
    frame(title, &header, content)
}

/// A page that needs no access, such as an error.
pub(super) fn plain(title: &str, content: &Markup) -> Markup {
    frame(title, &html! {}, content)
}

fn frame(title: &str, header: &Markup, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (printable(title)) " - hpkp reports" }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="/icon.svg";
            }
            body {
                a.skip href="#content" { "Skip to content" }
                header {
                    nav aria-label="Main" { a.home href="/" { "hpkp reports" } }
                    (header)
                }
                main #content { (content) }
                footer {
                    p { "Reports are not authenticated: anybody can make one up. Times are UTC." }
                }
            }
        }
    }
}

fn search(range: &Range, action: &str) -> Markup {
    html! {
        form.search role="search" method="get" action=(action) {
            div.field {
                label for="q" { "Search" }
                input #q name="q" type="search" value=(printable(&range.text))
                    placeholder="host, finding, client, certificate";
            }
            div.field {
                label for="from" { "From" }
                input #from name="from" type="date" value=(range.first_day());
            }
            div.field {
                label for="to" { "To" }
                input #to name="to" type="date" value=(range.last_day());
            }
            button type="submit" { "Show" }
        }
    }
}
