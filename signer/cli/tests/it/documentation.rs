//! `docs/release-engineer.md` is in step with the program.

use crate::sandbox::Sandbox;

const DOCUMENT: &str = include_str!("../../../../docs/release-engineer.md");

/// The command lines of the document, joined where a backslash continues them.
fn command_lines() -> Vec<String> {
    let joined = DOCUMENT.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).map(|line| line.trim_start_matches("SLUICE_TOKEN=... "));
    lines.filter_map(|line| line.strip_prefix("sluice-sign ")).map(str::to_owned).collect()
}

#[test]
fn every_command_is_described() {
    let help = Sandbox::new().run("--help").ok().stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> =
        commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names.into_iter().filter(|&name| name != "help") {
        assert!(
            DOCUMENT.contains(&format!("sluice-sign {name}")) || DOCUMENT.contains(&format!("sluice-sign\n{name}")),
            "{name}"
        );
    }
}

/// None of the document's command lines is misunderstood: they fail, in an empty folder, by missing files only.
#[test]
fn every_command_line_is_understood() {
    let sandbox = Sandbox::new();
    let lines = command_lines();
    assert!(lines.len() >= 10, "{lines:?}");
    for line in lines.iter().filter(|line| !line.starts_with("key new")) {
        let run = sandbox.run(line);
        let missing = if line.starts_with("tuf") || line.starts_with("uptane") { 1 } else { 6 };
        assert!(matches!(run.code, 0 | 3) || run.code == missing, "{line}\n{}", run.transcript());
    }
}

#[test]
fn a_command_line_that_is_not_understood_exits_with_two() {
    assert_eq!(Sandbox::new().run("frobnicate").code, 2);
}
