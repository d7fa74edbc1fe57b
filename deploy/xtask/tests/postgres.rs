//! The throw-away PostgreSQL is gone afterwards, however its user ended.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to stop: it shuts down in a moment, but the machine may be building.
const STOP_MAX: Duration = Duration::from_mins(1);

/// Starts a server whose user prints its URL and then waits for its input to end.
fn start() -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["postgres", "--", "sh", "-c", "echo $SLUICE_TEST_POSTGRES; read -r line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let place =
        url.trim().split_once('@').and_then(|(_, rest)| rest.split_once('/')).map(|(place, _)| place.to_owned());
    (child, place.unwrap_or_else(|| panic!("no URL: {url:?}")))
}

fn listens(place: &str) -> bool {
    TcpStream::connect(place).is_ok()
}

#[expect(clippy::disallowed_methods, reason = "the deadline of a wait for another process")]
fn assert_stops(place: &str) {
    let start = Instant::now();
    while listens(place) {
        assert!(start.elapsed() < STOP_MAX, "the server at {place} still listens");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn the_server_stops_with_its_user_and_the_users_code_is_ours() {
    let (mut child, place) = start();
    assert!(listens(&place));
    // The end of its input is the end of the user: `read` fails with 1.
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!listens(&place), "it has stopped before we are told");
}

#[test]
fn the_server_stops_when_we_are_terminated() {
    let (mut child, place) = start();
    // `wait` closes what it holds of the input; the user must end by the signal and not by that.
    let input = child.stdin.take();
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    drop(input);
    assert!(!listens(&place), "it has stopped before we are told");
}

#[test]
fn the_server_stops_when_we_are_killed() {
    let (mut child, place) = start();
    signal(&child, "-KILL");
    assert_eq!(child.wait().unwrap().code(), None);
    assert_stops(&place);
}
