//! `elbo completions` and `elbo man`.

use crate::scratch::Scratch;
use std::fs;

/// Returns the names of all commands, from the help.
fn commands(scratch: &Scratch) -> Vec<String> {
    let help = scratch.succeeds("--help");
    let (_, below) = help.split_once("Commands:\n").unwrap();
    let lines = below.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
    assert!(["train", "convert", "man"].iter().all(|name| names.iter().any(|n| n == name)));
    names
}

#[test]
fn completions_contain_commands_and_options() {
    let scratch = Scratch::new("completions");
    let commands = commands(&scratch);
    for (shell, part) in [
        ("bash", "complete -F _elbo"),
        ("zsh", "#compdef elbo"),
        ("fish", "complete -c elbo"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer[elbo]"),
    ] {
        let script = scratch.succeeds(&format!("completions {shell}"));
        assert!(script.contains(part), "{shell}");
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
        assert!(script.contains("free-bits-per") && script.contains("onnx"), "{shell}");
    }
    let message = scratch.fails(2, "completions tcsh");
    assert!(message.contains("'tcsh' for '<SHELL>'"), "{message}");
}

#[cfg(unix)]
#[test]
fn bash_completes_a_word() {
    let scratch = Scratch::new("bash");
    let script = scratch.succeeds("completions bash");
    fs::write(scratch.path("elbo.bash"), script).unwrap();
    let line = "source ./elbo.bash && COMP_WORDS=(elbo rec) COMP_CWORD=1 && _elbo elbo rec elbo && \
                echo \"${COMPREPLY[@]}\"";
    let bash = std::process::Command::new("bash")
        .args(["--norc", "-c", line])
        .current_dir(scratch.path("."))
        .output();
    // Not every machine has bash.
    let Ok(output) = bash else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "reconstruct");
}

#[test]
fn writes_a_page_for_the_tool_and_each_command() {
    let scratch = Scratch::new("man");
    let page = scratch.succeeds("man");
    assert!(page.contains(".TH elbo 1") && page.contains("elbo\\-train(1)"), "{page}");
    let stdout = scratch.says("man --out man/man1");
    assert!(stdout.starts_with("in man/man1: elbo-train.1, "), "{stdout}");
    let names = scratch.names_in("man/man1");
    for name in commands(&scratch) {
        assert!(names.contains(&format!("elbo-{name}.1")), "{name} {names:?}");
    }
    // Subcommands have pages, and every page that is referred to exists.
    assert!(names.contains(&"elbo.1".to_owned()) && names.contains(&"elbo-plot-roc.1".to_owned()));
    assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
    let train = fs::read_to_string(scratch.path("man/man1/elbo-train.1")).unwrap();
    assert!(train.contains(".TH elbo-train 1"), "{train}");
    for part in ["elbo train", "\\-\\-free\\-bits\\-per", "\\-\\-threads", ".SH EXAMPLES"] {
        assert!(train.contains(part), "{part}\n{train}");
    }
    fs::write(scratch.path("taken"), "").unwrap();
    let message = scratch.fails(1, "man --out taken");
    assert!(message.starts_with("taken: cannot write to this directory: "), "{message}");
}
