//! This process's memory, as the kernel counts it.

/// Resident memory in KiB: now, and at most so far (`VmRSS` and `VmHWM` of `/proc/self/status`).
/// `None` where there is no `/proc`.
pub fn resident_kib() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_peak_is_at_least_the_present() {
        let Some((now, peak)) = super::resident_kib() else {
            drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED: no /proc here\n")));
            return;
        };
        assert!(now > 0 && peak >= now / 2, "{now} {peak}");
    }
}
