//! Reads the blocks of a document that run, and the comments that control how they run.

/// One command of a document.
pub struct Step {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// The text for the shell.
    pub command: String,
    /// The output in the document: the number of its first line, and its lines. `None` if the document
    /// shows no output, as for `sh`.
    pub output: Option<(usize, Vec<String>)>,
}

/// The parts of a document that run.
#[derive(Default)]
pub struct Page {
    /// The function of `machines.sh` that prepares its machine.
    pub machine: Option<String>,
    /// In the order of the document.
    pub steps: Vec<Step>,
}

/// The value of a comment `<!-- KEY: VALUE -->`.
fn comment<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let inside = text.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim();
    inside.strip_prefix(key)?.strip_prefix(':').map(str::trim)
}

/// Reads a document; an error begins with the number of the line.
pub fn parse(text: &str) -> Result<Page, String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut page = Page::default();
    let mut file: Option<String> = None;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let trimmed = line.trim_start();
        if trimmed.starts_with("<!--") {
            let end = (at..lines.len())
                .find(|end| lines.get(*end).is_some_and(|line| line.trim_end().ends_with("-->")))
                .ok_or_else(|| format!("{}: a comment without an end", at + 1))?;
            let whole = lines.get(at..=end).unwrap_or_default().join("\n");
            if let Some(name) = comment(&whole, "machine") {
                page.machine = Some(name.to_owned());
            } else if let Some(command) = comment(&whole, "run") {
                page.steps.push(Step { line: at + 1, command: command.to_owned(), output: None });
            } else if let Some(path) = comment(&whole, "file") {
                file = Some(path.to_owned());
            }
            at = end + 1;
        } else if let Some(info) = trimmed.strip_prefix("```") {
            let indent = line.len() - trimmed.len();
            let end = (at + 1..lines.len())
                .find(|end| lines.get(*end).is_some_and(|line| line.trim() == "```"))
                .ok_or_else(|| format!("{}: a block without an end", at + 1))?;
            let body: Vec<&str> = lines
                .get(at + 1..end)
                .unwrap_or_default()
                .iter()
                .map(|line| line.get(indent..).unwrap_or_default())
                .collect();
            if let Some(path) = file.take() {
                page.steps.push(to_file(&path, &body, at + 1));
            } else {
                block(info.trim(), &body, at + 2, &mut page.steps)?;
            }
            at = end + 1;
        } else {
            at += 1;
        }
    }
    Ok(page)
}

fn to_file(path: &str, body: &[&str], line: usize) -> Step {
    let command = format!(
        "mkdir -p \"$(dirname {path})\" && cat > {path} <<'END_OF_BLOCK'\n{}\nEND_OF_BLOCK",
        body.join("\n")
    );
    Step { line, command, output: None }
}

/// The commands of a block whose content begins on line `first`.
fn block(info: &str, body: &[&str], first: usize, steps: &mut Vec<Step>) -> Result<(), String> {
    match info {
        "sh" => steps.push(Step { line: first, command: body.join("\n"), output: None }),
        "console" => {
            let mut continued = false;
            for (line, text) in (first..).zip(body) {
                let prompt = text.strip_prefix("# ").or_else(|| text.strip_prefix("$ "));
                match (prompt, steps.last_mut()) {
                    (_, Some(step)) if continued => {
                        step.command.push('\n');
                        step.command.push_str(text);
                        step.output = Some((line + 1, Vec::new()));
                    }
                    (Some(command), _) => {
                        let output = Some((line + 1, Vec::new()));
                        steps.push(Step { line, command: command.to_owned(), output });
                    }
                    (None, Some(Step { output: Some((_, lines)), .. })) if line != first => {
                        lines.push((*text).to_owned());
                    }
                    _ => return Err(format!("{line}: a console block begins without a prompt")),
                }
                continued = (prompt.is_some() || continued) && text.ends_with(['\\', '|']);
            }
        }
        "console excerpt" | "sh excerpt" => {}
        other if other.starts_with("console") || other.starts_with("sh ") => {
            return Err(format!("{}: ```{other}: only \"excerpt\" may follow", first - 1));
        }
        _ => {}
    }
    Ok(())
}

/// The document, with new outputs for these steps.
pub fn with_outputs(text: &str, changes: &[(&Step, Vec<String>)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (step, output) in changes.iter().rev() {
        let Some((first, old)) = &step.output else { continue };
        let indent: String = lines
            .get(step.line - 1)
            .map(|line| line.chars().take_while(|c| *c == ' ').collect())
            .unwrap_or_default();
        let new = output.iter().map(|line| format!("{indent}{line}"));
        lines.splice(first - 1..first - 1 + old.len(), new);
    }
    lines.join("\n") + "\n"
}
