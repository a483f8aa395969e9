//! Ranks work together, here as threads of one process.

mod together;

use numformer_testkit::on_ranks;

#[test]
fn ranks_do_what_one_does() {
    for (name, check) in together::CHECKS {
        for size in [1, 2, 4] {
            for (rank, checked) in
                on_ranks(size, |ranks| check(&ranks).map_err(|error| error.to_string())).iter().enumerate()
            {
                assert_eq!(*checked, Ok(()), "{name}: rank {rank} of {size}");
            }
        }
    }
}
