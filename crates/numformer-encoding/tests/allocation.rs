//! Writing and reading allocate nothing once their buffers are large enough, for any numbers.

use numformer_encoding::{Layout, MatrixEncoding, Preset, Vocabulary};

#[test]
fn warm_buffers_are_enough() {
    // Zeros, exact ties and numbers that become zero among the ordinary ones.
    let coefficients: Vec<f64> =
        (0..100).map(|i| [0.0, 100.5, 1e-120, -7.125, f64::from(i) / 7.0][i as usize % 5]).collect();
    let symmetric: Vec<f64> =
        (0..100).map(|place| [place / 10, place % 10]).map(|[i, j]| coefficients[i.max(j) * 10 + i.min(j)]).collect();
    for preset in Preset::ALL {
        let number = preset.encoding();
        let vocabulary = Vocabulary::reference(&*number, &*number);
        let encoding = MatrixEncoding::new(number, &vocabulary).expect("its own vocabulary");
        let packed = encoding.clone().with_layout(Layout::LowerTriangle);
        let blocks = encoding.clone().with_layout(Layout::LeadingBlocks);
        for (encoding, coefficients) in [(encoding, &coefficients), (packed, &symmetric), (blocks, &coefficients)] {
            let (mut tokens, mut read) = (Vec::new(), Vec::new());
            let mut round_trip = || {
                tokens.clear();
                encoding.encode(10, 10, coefficients.iter().copied(), &mut tokens).expect("numbers in range");
                encoding.decode_into(&tokens, &mut read).expect("its own tokens");
            };
            round_trip();
            let allocations = allocation_counter::measure(round_trip).count_total;
            assert_eq!(allocations, 0, "{preset}, {:?}", encoding.layout());
        }
    }
}
