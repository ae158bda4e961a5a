//! Whatever happens on the way, exactly the file reaches the applier.

use std::time::Duration;

use proptest::prelude::*;

use super::bench::*;
use nerves_hub_link_protocol::UpdateStrategy as Way;
use nerves_hub_link_protocol::*;

#[derive(Clone, Debug)]
enum Step {
    Serve(usize, usize),
    Cut(usize),
    Pass(u64),
    Restart,
    /// A byte on disk changes: part and offset.
    Rot(u32, usize),
    /// The end of a part on disk is lost.
    Truncate(u32, usize),
    Corrupt(usize),
    Whole(bool),
    Reports(bool),
    Report,
}

const LEN: usize = 9 * PART + 77;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..4_usize, 1..3000_usize).prop_map(|(at, len)| Step::Serve(at, len)),
        2 => (0..4_usize).prop_map(Step::Cut),
        3 => (0..40_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => (0..10_u32, 0..PART).prop_map(|(part, at)| Step::Rot(part, at)),
        1 => (0..10_u32, 0..PART).prop_map(|(part, at)| Step::Truncate(part, at)),
        1 => (0..LEN).prop_map(Step::Corrupt),
        1 => any::<bool>().prop_map(Step::Whole),
        2 => any::<bool>().prop_map(Step::Reports),
        2 => Just(Step::Report),
    ];
    proptest::collection::vec(step, 0..80)
}

fn run(way: Way, steps: &[Step]) -> (Vec<Output>, Vec<String>) {
    let mut bench = Bench::plain(way, LEN);
    let mut outputs = Vec::new();
    for step in steps {
        match step {
            Step::Serve(at, len) => bench.serve(*at, *len),
            Step::Cut(at) => bench.cut(*at),
            Step::Pass(millis) => bench.pass(Duration::from_millis(*millis)),
            Step::Restart => {
                outputs.append(&mut bench.device.out);
                // Whatever was on its way to the disk got there.
                bench = bench.restarted(way);
            }
            Step::Rot(part, at) => {
                let folder = bench.disk.0.values_mut().next();
                if let Some(byte) = folder.and_then(|f| f.parts.get_mut(part)).and_then(|b| b.get_mut(*at)) {
                    *byte ^= 1;
                }
                outputs.append(&mut bench.device.out);
                bench = bench.restarted(way);
            }
            Step::Truncate(part, at) => {
                if let Some(bytes) = bench.disk.0.values_mut().next().and_then(|f| f.parts.get_mut(part)) {
                    bytes.truncate(*at);
                }
                outputs.append(&mut bench.device.out);
                bench = bench.restarted(way);
            }
            Step::Corrupt(at) => bench.corrupt = Some((*at, 1)),
            Step::Whole(whole) => bench.whole = *whole,
            Step::Reports(reports) => bench.reports = *reports,
            Step::Report => bench.report(),
        }
        if bench.finished {
            break;
        }
    }
    // Everything heals; what failed is offered again.
    bench.reports = true;
    bench.whole = false;
    bench.report();
    if !bench.finished && bench.device.link.status().update == UpdateState::Idle {
        bench = bench.restarted(way);
    }
    bench.corrupt = None;
    bench.serve_all();
    if !bench.finished {
        // Bad bytes from before the healing may have used up the last attempt.
        bench = bench.restarted(way);
        bench.serve_all();
    }
    bench.assert_complete();
    outputs.append(&mut bench.device.out);
    (outputs, bench.ranges)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exactly_the_file_is_applied(at_once in 0..5_u32, steps in steps()) {
        let way = if at_once == 0 { Way::Caching } else { parts(at_once) };
        let first = run(way, &steps);
        prop_assert!(first == run(way, &steps), "a second run differs");
    }
}
