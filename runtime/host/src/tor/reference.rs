//! `tor::help`, and the reference pages in `docs/commands/`.
use super::{Command, commands};
use torhost_tcl::{Error, Interp, Obj, Result};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "tor::help",
    usage: "?command?",
    help: "Returns what there is to know about a command of this package, or a list of all of them, as text to print.",
    example: "puts [tor::help tor::log]",
    arguments: (0, Some(1)),
    run: help,
}];

fn help(_: &Interp, args: &[Obj]) -> Result<Obj> {
    let [wanted] = args else {
        let lines: Vec<String> = commands()
            .map(|command| format!("{}\n    {}", command.full_usage(), summary(command)))
            .collect();
        return Ok(Obj::from(lines.join("\n")));
    };
    let wanted = wanted.to_text_lossy();
    let name = wanted.trim_start_matches(':');
    let name = if name.starts_with("tor::") {
        name.to_owned()
    } else {
        format!("tor::{name}")
    };
    let found: Vec<String> = commands()
        .filter(|command| command.name == name || command.words().0 == name)
        .map(|command| {
            format!(
                "{}\n\n{}\n\nExample:\n\n{}\n",
                command.full_usage(),
                command.help,
                command.example
            )
        })
        .collect();
    if found.is_empty() {
        let mut names: Vec<&str> = commands().map(|command| command.words().0).collect();
        names.dedup();
        let message = format!(
            "no command \"{wanted}\" in the package tor: it has {}",
            names.join(", ")
        );
        return Err(Error::new(message).with_code(["TOR", "HELP", "UNKNOWN"]));
    }
    Ok(Obj::from(found.join("\n")))
}

fn summary(command: &Command) -> &str {
    let ends = [". ", ".\n", ":\n"].map(|end| command.help.find(end));
    let end = ends.into_iter().flatten().min();
    &command.help[..end.map_or(command.help.len(), |at| at + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::{env, fs};

    /// One page a namespace command, as Markdown.
    fn pages() -> BTreeMap<String, String> {
        let mut pages = BTreeMap::new();
        for command in commands() {
            let (name, _) = command.words();
            let page: &mut String = pages
                .entry(format!("{}.md", name.replace("::", "-")))
                .or_insert_with(|| format!("# {name}\n"));
            page.push_str(&format!(
                "\n## `{}`\n\n{}\n\n```tcl\n{}\n```\n",
                command.full_usage(),
                command.help,
                command.example
            ));
        }
        let mut index = "# Commands of the package `tor`\n\n`package require tor` makes these available in any script that torhost \
                         runs. `tor::help` shows the same pages.\n\n| command | |\n|---|---|\n"
            .to_owned();
        for command in commands() {
            let page = command.words().0.replace("::", "-");
            let usage = command.full_usage().replace('|', "\\|");
            index.push_str(&format!("| [`{usage}`]({page}.md) | {} |\n", summary(command)));
        }
        pages.insert("README.md".to_owned(), index);
        pages
    }

    #[test]
    fn the_reference_pages_are_the_tables() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands");
        for (name, page) in pages() {
            let file = folder.join(&name);
            if env::var_os("UPDATE_DOCS").is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&file, &page).unwrap();
            }
            let written = fs::read_to_string(&file).unwrap_or_default();
            assert!(
                written == page,
                "docs/commands/{name} is out of date: run the tests with UPDATE_DOCS=1"
            );
        }
    }
}
