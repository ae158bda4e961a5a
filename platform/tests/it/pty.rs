//! A real shell in a real pseudo-terminal.

use std::time::{Duration, Instant};

use nerves_hub_link_platform::limits::{ENDING_SHELLS_MAX, SHELL_GRACE};
use nerves_hub_link_platform::pty::{Ended, Read, Shell, ShellCommand, ShellError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, test_kill_process, waitpid};

/// Longest wait for anything. Reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(60);

fn sh() -> ShellCommand {
    // No prompt and no history, whatever this machine's shell does.
    ShellCommand::new("/bin/sh").set("PS1", "").set("ENV", "").unset("HISTFILE")
}

/// A shell and what it wrote so far.
struct Session {
    shell: Shell,
    seen: String,
}

impl Session {
    fn start(command: &ShellCommand) -> Self {
        Self { shell: command.start(24, 80).unwrap(), seen: String::new() }
    }

    /// Waits for the terminal or the end, and reads what there is. Returns whether the terminal lives.
    fn turn(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "too long; seen: {:?}", self.seen);
        let timeout = Timespec::try_from(left).unwrap();
        let terminal = self.shell.terminal();
        let mut fds = vec![PollFd::new(&terminal, PollFlags::IN)];
        let process = self.shell.process();
        fds.extend(process.as_ref().map(|process| PollFd::new(process, PollFlags::IN)));
        poll(&mut fds, Some(&timeout)).unwrap();
        let mut buffer = [0; 4096];
        loop {
            match self.shell.read(&mut buffer) {
                Read::Bytes(bytes) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..bytes])),
                Read::Nothing => return true,
                Read::HungUp => return false,
            }
        }
    }

    fn until(&mut self, wanted: &str) {
        let until = Instant::now() + LIMIT;
        while !self.seen.contains(wanted) {
            let lives = self.turn(until);
            assert!(lives || self.seen.contains(wanted), "ended before {wanted:?}: {:?}", self.seen);
        }
    }

    fn type_in(&mut self, text: &str) {
        assert_eq!(self.shell.write(text.as_bytes()), text.len());
    }

    fn end(&mut self) -> Ended {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(ended) = self.shell.ended() {
                return ended;
            }
            self.turn(until);
        }
    }
}

#[test]
fn a_shell_has_a_terminal_of_its_own() {
    let mut session = Session::start(&sh());
    session.type_in("test -t 0 && test -t 1 && test -t 2 && echo yes-$((6*7)); tty; echo term=$TERM; pwd\n");
    session.until("yes-42");
    session.until("/dev/pts/");
    session.until("term=");
    session.until("\r\n/\r\n");
    // It controls the terminal: what is typed as a signal reaches what runs in front.
    session.type_in("trap 'echo caught-$((1+1))' INT; cat\n");
    session.until("cat\r\n");
    session.type_in("x\n");
    session.until("x\r\nx\r\n");
    session.type_in("\u{3}");
    session.until("caught-2");
    session.type_in("echo back-$((1+1))\n");
    session.until("back-2");
}

#[test]
fn the_window_has_the_size_it_was_given_last() {
    let mut session = Session::start(&sh());
    session.type_in("stty size\n");
    session.until("24 80\r\n");
    session.type_in("trap 'echo told-$((1+1))' WINCH\necho set-$((1+1))\n");
    session.until("set-2");
    session.shell.resize(40, 120);
    session.type_in("stty size\n");
    session.until("40 120\r\n");
    session.until("told-2");
}

#[test]
fn what_it_wrote_last_can_be_read_after_its_end() {
    let mut session = Session::start(&sh());
    session.type_in("echo last-$((1+1)); exit 3\n");
    assert_eq!(session.end(), Ended::Exited(3));
    let until = Instant::now() + LIMIT;
    while session.turn(until) {}
    assert!(session.seen.contains("last-2"), "{:?}", session.seen);
    assert_eq!(session.shell.ended(), Some(Ended::Exited(3)));
}

#[test]
fn signals_reach_it() {
    for signal in [9, 1] {
        let mut session = Session::start(&sh());
        session.type_in("echo up-$((1+1))\n");
        session.until("up-2");
        session.shell.signal(0);
        session.shell.signal(1000);
        assert_eq!(session.shell.ended(), None);
        session.shell.signal(signal);
        assert_eq!(session.end(), Ended::Signalled(signal));
    }
}

#[test]
fn what_does_not_exist_is_named() {
    let error = ShellCommand::new("/bin/no-such-shell").start(24, 80).err().unwrap();
    assert!(matches!(error, ShellError::Start { .. }));
    assert!(error.to_string().contains("/bin/no-such-shell"), "{error}");
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let command = sh().set("SECRET", "x").unset("SECRET").set("GREETING", "hi").argument("-c");
    let command = command.argument("echo [$SECRET] [$GREETING] [$1]; pwd").argument("sh").argument("a b");
    let mut session = Session::start(&command.folder("/usr"));
    session.until("[] [hi] [a b]\r\n/usr\r\n");
    assert_eq!(session.end(), Ended::Exited(0));
}

#[test]
fn a_shell_gets_only_the_named_part_of_this_process_s_environment() {
    // Cargo sets it for tests.
    assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
    let script = "echo [$CARGO_PKG_NAME] [${PATH:+path}]; exec env";
    let mut session = Session::start(&sh().argument("-c").argument(script));
    session.until("[] [path]");
    session.end();
    assert!(!session.seen.contains("CARGO_"), "{}", session.seen);
    let mut session = Session::start(&sh().pass("CARGO_PKG_NAME").argument("-c").argument(script));
    session.until("[nerves-hub-link-platform] [path]");
}

#[test]
fn letters_of_several_bytes_are_erased_whole() {
    let mut session = Session::start(&sh());
    session.type_in("echo up-$((1+1)); cat\n");
    session.until("up-2");
    session.type_in("aü\u{7f}b\n");
    session.until("\r\nab\r\n");
}

/// A program may have a thread that waits for all processes it started. It takes the status, not the end.
#[test]
fn a_shell_that_somebody_else_waited_for_has_ended() {
    let mut session = Session::start(&sh().argument("-c").argument("echo pid=$$.; exit 3"));
    session.until(".\r\n");
    let number = session.seen.split_once("pid=").unwrap().1;
    let pid = Pid::from_raw(number.split_once('.').unwrap().0.parse().unwrap()).unwrap();
    waitpid(Some(pid), WaitOptions::empty()).unwrap();
    let until = Instant::now() + LIMIT;
    while session.turn(until) {}
    assert_eq!(session.shell.ended(), Some(Ended::Exited(-1)));
}

/// Starts a shell that ignores being hung up; returns it with its number.
fn stubborn() -> (Session, Pid) {
    let mut session = Session::start(
        &sh().argument("-c").argument("trap '' HUP TERM; echo pid=$$.; while :; do sleep 1; done"),
    );
    session.until(".\r\n");
    let number = session.seen.split_once("pid=").unwrap().1;
    let number = number.split_once('.').unwrap().0.parse().unwrap();
    (session, Pid::from_raw(number).unwrap())
}

/// Waits until a process is gone; it must not be a child that nobody waits for.
fn gone(pid: Pid) {
    let until = Instant::now() + LIMIT;
    while test_kill_process(pid).is_ok() {
        assert!(Instant::now() < until, "{pid:?} is still there");
        std::thread::yield_now();
    }
}

#[test]
fn dropping_a_shell_ends_it_however_stubborn() {
    let (session, pid) = stubborn();
    let before = Instant::now();
    drop(session);
    assert!(before.elapsed() < SHELL_GRACE, "dropping must not wait");
    gone(pid);
    assert!(before.elapsed() >= SHELL_GRACE, "it had no time to end by itself");
}

#[test]
fn many_shells_that_do_not_end_are_killed_at_once() {
    let shells: Vec<(Session, Pid)> = (0..=ENDING_SHELLS_MAX).map(|_| stubborn()).collect();
    let pids: Vec<Pid> = shells.iter().map(|(_, pid)| *pid).collect();
    drop(shells);
    assert!(pids.iter().any(|pid| test_kill_process(*pid).is_err()), "none was killed at once");
    pids.into_iter().for_each(gone);
}

#[test]
fn a_terminal_nobody_reads_stops_the_writer_and_loses_nothing() {
    let mut session = Session::start(
        &sh().argument("-c").argument("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"),
    );
    // The kernel's buffer is far smaller than this output: it waits for us.
    let until = Instant::now() + LIMIT;
    while session.turn(until) {}
    let lines: Vec<String> = (0..20_000).map(|i| format!("line {i}\r\n")).collect();
    assert_eq!(session.seen, lines.concat());
    assert_eq!(session.end(), Ended::Exited(0));
}

#[test]
fn signals_ignored_from_the_start_are_heard_in_a_shell() {
    // This very program, started as `&` in a script starts things.
    let this = std::env::current_exe().unwrap();
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", "trap '' HUP INT QUIT; exec \"$0\" --exact pty::a_shell_has_a_terminal_of_its_own"])
        .arg(this)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
