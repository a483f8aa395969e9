//! How long a step would take on several ranks.

use std::time::Duration;

use numformer_evaluate::text;

/// Bytes that are added up at once between processes on CPUs.
const BUCKET: f64 = (1 << 20) as f64;

/// Short vectors that are added up in each step beside the gradients: numbers of tokens, losses, and whether to stop.
const SHORT_SUMS: f64 = 4.0;

/// A connection between ranks.
struct Network {
    name: &'static str,
    /// Bytes per second that a rank sends and receives at once.
    bandwidth: f64,
    /// Seconds until the first byte arrives.
    latency: f64,
}

/// For processes on CPUs. Bandwidths are four fifths of the nominal ones.
const OF_CPUS: [Network; 2] = [
    Network { name: "10 Gbit/s Ethernet", bandwidth: 1e9, latency: 30e-6 },
    Network { name: "200 Gbit/s InfiniBand", bandwidth: 20e9, latency: 2e-6 },
];

/// For GPUs, each with its share of a machine's network.
const OF_GPUS: [Network; 2] = [
    Network { name: "200 Gbit/s InfiniBand", bandwidth: 20e9, latency: 10e-6 },
    Network { name: "NVLink", bandwidth: 300e9, latency: 5e-6 },
];

/// Measured times of a step, from which those on several ranks are estimated.
pub(crate) struct Scaling {
    /// The examples of a step and its time.
    pub(crate) whole: (usize, Duration),
    /// The examples of a rank when there are as many ranks as are asked for, and the time for them.
    pub(crate) least: (usize, Duration),
    pub(crate) parameters: u64,
    pub(crate) is_gpu: bool,
}

impl Scaling {
    /// A table for up to so many ranks, with what it assumes.
    pub(crate) fn report(&self, most: usize, width: Option<usize>) -> String {
        let networks = if self.is_gpu { &OF_GPUS } else { &OF_CPUS };
        let mut sizes: Vec<usize> =
            std::iter::successors(Some(1), |size| Some(2 * size)).take_while(|size| *size < most).collect();
        sizes.push(most);
        let mut titles = vec!["ranks", "examples", "compute"];
        titles.extend(networks.iter().flat_map(|network| [network.name, "speed"]));
        let alone = self.compute(1);
        let rows: Vec<Vec<String>> = sizes
            .into_iter()
            .map(|size| {
                let compute = self.compute(size);
                let mut row = vec![size.to_string(), self.examples(size).to_string(), seconds(compute)];
                for network in networks {
                    let exchange = self.exchange(size, network);
                    row.extend([seconds(exchange), format!("{:.1}x", alone / (compute + exchange))]);
                }
                row
            })
            .collect();
        let process = if self.is_gpu { "a GPU like this one" } else { "a process with the cores of this one" };
        let what = format!(
            "\nEstimated time of a step on several ranks, each {process}, that share the batch: the time to compute, that to \
             add up gradients, and how many times as fast as one rank all goes.\n\n"
        );
        let assumed = format!(
            "\nMeasured: a step of {} examples, {}, and one of {}, {}; between them, the time is taken to be linear. Assumed: \
             all {:.1} MB of gradients are sent, in sums by halves ({}), at {}; nothing overlaps; all ranks are equally \
             fast and have no others beside them. On one machine, ranks share its memory's bandwidth.\n",
            self.whole.0,
            seconds(self.whole.1.as_secs_f64()),
            self.least.0,
            seconds(self.least.1.as_secs_f64()),
            self.bytes() / 1e6,
            if self.is_gpu { "one message" } else { "messages of 1 MiB" },
            networks
                .iter()
                .map(|network| {
                    let (rate, latency) = (network.bandwidth / 1e9, network.latency * 1e6);
                    format!("{rate:.0} GB/s and {latency:.0} µs by {}", network.name)
                })
                .collect::<Vec<_>>()
                .join(", "),
        );
        let table = text::table(&titles, &rows, text::Align::Right, width);
        text::folded(&what, width) + &table + &text::folded(&assumed, width)
    }

    fn bytes(&self) -> f64 {
        4.0 * self.parameters as f64
    }

    /// The examples of the rank that has most.
    fn examples(&self, size: usize) -> usize {
        self.whole.0.div_ceil(size)
    }

    /// Seconds that a rank of so many computes: on the line through both measurements.
    fn compute(&self, size: usize) -> f64 {
        let ((most, slow), (least, fast)) = (self.whole, self.least);
        let (slow, fast) = (slow.as_secs_f64(), fast.as_secs_f64());
        if most == least {
            return slow;
        }
        let slope = (slow - fast) / (most - least) as f64;
        fast + slope * (self.examples(size) - least) as f64
    }

    /// Seconds that ranks take to add up gradients: by halving distances, each sends and receives nearly twice the vector
    /// in 2·log₂(ranks) messages (Thakur, Rabenseifner and Gropp 2005, section 4.5).
    fn exchange(&self, size: usize, network: &Network) -> f64 {
        if size == 1 {
            return 0.0;
        }
        let share = 1.0 - 1.0 / size as f64;
        let sums = if self.is_gpu { 1.0 } else { (self.bytes() / BUCKET).ceil() } + SHORT_SUMS;
        let messages = 2.0 * (size as f64).log2().ceil();
        2.0 * share * self.bytes() / network.bandwidth + sums * messages * network.latency
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.2} ms", 1e3 * seconds) } else { format!("{seconds:.3} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling() -> Scaling {
        let of = Duration::from_millis;
        Scaling { whole: (64, of(650)), least: (1, of(20)), parameters: 25 << 20, is_gpu: false }
    }

    #[test]
    fn times_are_those_measured_and_of_the_messages() {
        let scaling = scaling();
        assert!((scaling.compute(1) - 0.65).abs() < 1e-9 && (scaling.compute(64) - 0.02).abs() < 1e-9);
        assert!((scaling.compute(2) - 0.33).abs() < 1e-9, "{}", scaling.compute(2));
        let network = Network { name: "", bandwidth: 1e9, latency: 1e-5 };
        assert!(scaling.exchange(1, &network).abs() < 1e-12);
        // A hundred buckets and the short sums, each in two messages; each rank sends the vector once.
        let expected = 4.0 * (25 << 20) as f64 / 1e9 + 104.0 * 2.0 * 1e-5;
        assert!((scaling.exchange(2, &network) - expected).abs() < 1e-9);
        assert!(scaling.exchange(1000, &network) < 2.0 * 0.105 + 104.0 * 20.0 * 1e-5 + 1e-9);
    }

    #[test]
    fn the_table_ends_with_the_ranks_asked_for() {
        let report = scaling().report(48, Some(200));
        let rows: Vec<&str> = report.lines().filter_map(|line| line.split_whitespace().next()).collect();
        for size in ["1", "2", "4", "8", "16", "32", "48"] {
            assert!(rows.contains(&size), "{report}");
        }
        assert!(!rows.contains(&"64") && report.contains("Assumed"), "{report}");
    }
}
