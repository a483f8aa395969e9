//! The plot of the learning curve.

use std::error::Error;
use std::io;
use std::ops::Range;
use std::path::Path;

use numformer_metrics::Tolerance;
use numformer_store::files::write_atomically;
use numformer_train::{Record, read_metrics};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Loss and accuracy against the number of training examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LearningCurve {
    /// Examples and training loss.
    pub loss: Vec<(f64, f64)>,
    /// Per tolerance, examples and accuracy on the validation set.
    pub accuracy: Vec<(Tolerance, Vec<(f64, f64)>)>,
    /// Examples and share of exact answers.
    pub exact: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (800, 600);
/// Colours that readers with any colour vision can tell apart (Okabe & Ito 2008).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

impl LearningCurve {
    /// The curve of a run, from its `metrics.jsonl`.
    ///
    /// # Errors
    /// When [`read_metrics`] fails.
    pub fn read(metrics: &Path) -> io::Result<Self> {
        Ok(Self::from_records(&read_metrics(metrics)?))
    }

    /// The curve through these records.
    #[must_use]
    pub fn from_records(records: &[Record]) -> Self {
        let mut curve = Self::default();
        for record in records {
            match record {
                Record::Step(step) => curve.loss.push((step.examples as f64, step.loss)),
                // A stage is judged on its own examples.
                Record::Evaluation(report) if report.stage.is_none() => {
                    let examples = report.examples as f64;
                    curve.exact.push((examples, report.evaluation.exact));
                    for (tolerance, share) in &report.evaluation.accuracy {
                        let point = (examples, *share);
                        match curve.accuracy.iter_mut().find(|(known, _)| known == tolerance) {
                            Some((_, points)) => points.push(point),
                            None => curve.accuracy.push((*tolerance, vec![point])),
                        }
                    }
                }
                Record::Evaluation(_) | Record::Divergence(_) | Record::Stage(_) | Record::Change(_) => {}
            }
        }
        curve
    }

    /// The figure: loss above, accuracies below.
    ///
    /// # Errors
    /// When the figure cannot be drawn.
    pub fn to_svg(&self) -> Result<String, Box<dyn Error>> {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (upper, lower) = area.split_vertically(SIZE.1 / 2);
        let last = self.loss.iter().chain(&self.exact).map(|point| point.0).fold(1.0, f64::max);
        self.draw_loss(&upper, 0.0..last)?;
        self.draw_accuracy(&lower, 0.0..last)?;
        area.present()?;
        drop((area, upper, lower));
        Ok(svg)
    }

    /// Writes the figure to a file.
    ///
    /// # Errors
    /// When the figure cannot be drawn, or the file cannot be written.
    pub fn write_svg(&self, path: &Path) -> io::Result<()> {
        let svg = self.to_svg().map_err(|error| io::Error::other(error.to_string()))?;
        write_atomically(path, svg.as_bytes())
    }

    fn draw_loss(&self, area: &Area<'_>, examples: Range<f64>) -> Result<(), Box<dyn Error>> {
        let highest = self.loss.iter().map(|point| point.1).fold(0.1, f64::max);
        let mut chart = layout(area).build_cartesian_2d(examples, 0.0..1.05 * highest)?;
        chart.configure_mesh().y_desc("training loss, nats per token").x_labels(8).light_line_style(WHITE).draw()?;
        chart.draw_series(LineSeries::new(self.loss.iter().copied(), &COLOURS[0]))?;
        Ok(())
    }

    fn draw_accuracy(&self, area: &Area<'_>, examples: Range<f64>) -> Result<(), Box<dyn Error>> {
        let mut chart = layout(area).build_cartesian_2d(examples, 0.0..1.05)?;
        let percent = |share: &f64| format!("{:.0}%", 100.0 * share);
        chart
            .configure_mesh()
            .x_desc("training examples")
            .y_desc("validation accuracy")
            .x_labels(8)
            .y_labels(6)
            .y_label_formatter(&percent)
            .light_line_style(WHITE)
            .draw()?;
        let within = self.accuracy.iter().map(|(tolerance, points)| (format!("within {tolerance}"), points));
        let series = within.chain([("exact".to_owned(), &self.exact)]);
        for ((name, points), colour) in series.zip(COLOURS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(RGBColor(200, 200, 200))
            .draw()?;
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn layout<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(area);
    chart.margin(12).x_label_area_size(40).y_label_area_size(56);
    chart
}

#[cfg(test)]
mod tests {
    use super::*;
    use numformer_evaluate::Evaluation;
    use numformer_train::{EvaluationReport, StepReport};

    #[test]
    fn every_series_of_the_records_is_drawn() {
        let step = |step| {
            let (examples, loss) = (64 * step, 3.0 / step as f64);
            Record::Step(StepReport { step, examples, loss, lr: 1e-3, gradient_norm: 1.0 })
        };
        let evaluation = |step, share| {
            let accuracy = Tolerance::STANDARD.map(|tolerance| (tolerance, share)).to_vec();
            let evaluation = Evaluation {
                count: 10,
                accuracy,
                exact: share,
                decodable: 1.0,
                cross_entropy: 1.0,
                coefficients: share,
                ..Evaluation::default()
            };
            Record::Evaluation(EvaluationReport { step, examples: 64 * step, stage: None, evaluation })
        };
        let curve = LearningCurve::from_records(&[step(1), evaluation(1, 0.0), step(2), evaluation(2, 0.9)]);
        assert_eq!(curve.loss, [(64.0, 3.0), (128.0, 1.5)]);
        assert_eq!(curve.accuracy[3].1, [(64.0, 0.0), (128.0, 0.9)]);
        let svg = curve.to_svg().expect("drawn");
        for text in ["training loss", "training examples", "within 5%", "within 0.5%", "exact"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.matches("<polyline").count() >= 6);
    }

    #[test]
    fn a_run_without_records_has_an_empty_figure() {
        assert!(LearningCurve::default().to_svg().expect("drawn").starts_with("<svg"));
    }
}
