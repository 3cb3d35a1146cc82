//! `cheetah completions SHELL` and `cheetah manual`: what `--help` says, for shells and for `man`.

use std::io::Write;

use clap::CommandFactory;

/// Print completions for a shell, as in `cheetah completions bash > /etc/bash_completion.d/cheetah`
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// Print a manual page in roff, as in `cheetah manual serve > cheetah-serve.1`
#[derive(Debug, clap::Args)]
pub(super) struct Manual {
    /// Of which subcommand; without it of the whole program
    command: Option<String>,
}

pub(super) fn completions(arguments: &Completions) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "cheetah", &mut text);
    Ok(std::io::stdout().write_all(&text)?)
}

pub(super) fn manual(arguments: &Manual) -> anyhow::Result<()> {
    let mut whole = super::Arguments::command();
    whole.build();
    let command = match &arguments.command {
        None => whole,
        Some(name) => {
            let names: Vec<&str> = whole.get_subcommands().map(clap::Command::get_name).collect();
            let found = whole.find_subcommand(name);
            let names = names.join(", ");
            let command =
                found.ok_or_else(|| super::Usage(format!("there is no `{name}`; there are {names}")))?;
            command.clone().display_name(format!("cheetah-{name}"))
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(std::io::stdout().write_all(&text)?)
}
