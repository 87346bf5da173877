//! Curves as SVG files for the handbook: both axes logarithmic, readable on light and on dark pages, told apart without colour.
//!
//! Key types: [`Plot`], [`Curve`]. The file styles itself by `prefers-color-scheme` and has no background of its own.

use std::fmt::Write;

/// What was measured for one kernel: (size, value), both greater than 0.
pub struct Curve {
    /// Its name.
    pub name: String,
    /// In ascending order of the size.
    pub points: Vec<(f64, f64)>,
}

/// Some curves over the same axes.
pub struct Plot {
    /// What is shown.
    pub title: String,
    /// What the size is, with its unit.
    pub across: String,
    /// What the value is, with its unit.
    pub up: String,
    /// At most four.
    pub curves: Vec<Curve>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 356.0;

const STYLE: &str = "text{font:13px sans-serif;fill:#24292f}.title{font-size:15px;font-weight:bold}.grid{stroke:#8c959f;\
                     stroke-opacity:.35}.line{fill:none;stroke-width:2.5}.c0{stroke:#0550ae;fill:#0550ae}.c1{stroke:#bc4c00;\
                     fill:#bc4c00;stroke-dasharray:7 4}.c2{stroke:#1a7f37;fill:#1a7f37;stroke-dasharray:2 3}.c3{stroke:#8250df;\
                     fill:#8250df;stroke-dasharray:10 3 2 3}.mark{stroke-dasharray:none}.line{fill:none}text.name{stroke:none}\
                     @media(prefers-color-scheme:dark){text{fill:#e6edf3}.c0{stroke:#79c0ff;fill:#79c0ff}.c1{stroke:#ffa657;\
                     fill:#ffa657}.c2{stroke:#7ee787;fill:#7ee787}.c3{stroke:#d2a8ff;fill:#d2a8ff}.line{fill:none}}";

/// A logarithmic axis from `least` to `most`, drawn from `start` to `end`.
struct Axis {
    least: f64,
    most: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// Covers the values, to whole halves or doubles where they lie in a decade, else to whole decades.
    fn over(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Axis {
        let (least, most) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(a, b), v| (a.min(v), b.max(v)));
        let (least, most) = if least > most { (1.0, 10.0) } else { (least, most) };
        let decade = |value: f64| 10f64.powf(value);
        let (mut low, mut high) = (decade(least.log10().floor()), decade(most.log10().ceil()));
        // Half an empty decade at an end says nothing.
        if least >= low * 5.0 {
            low *= 5.0;
        } else if least >= low * 2.0 {
            low *= 2.0;
        }
        if most <= high / 5.0 {
            high /= 5.0;
        } else if most <= high / 2.0 {
            high /= 2.0;
        }
        if high <= low {
            high = low * 10.0;
        }
        Axis { least: low, most: high, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.max(self.least) / self.least).ln() / (self.most / self.least).ln();
        self.start + part * (self.end - self.start)
    }

    /// Where lines and numbers stand: the decades, and 2 and 5 of each where there are few.
    fn ticks(&self) -> Vec<f64> {
        let few = (self.most / self.least).log10() < 2.5;
        let steps: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let first = self.least.log10().floor() as i32;
        let last = self.most.log10().ceil() as i32;
        let decades = (first..=last).map(|power| 10f64.powi(power));
        let all = decades.flat_map(|decade| steps.iter().map(move |step| step * decade));
        all.filter(|tick| *tick >= self.least * 0.999 && *tick <= self.most * 1.001).collect()
    }
}

/// A number for an axis: plain if it is short, else a power of ten.
fn number(value: f64) -> String {
    if !(0.001..10_000.0).contains(&value) {
        let power = value.log10().floor() as i32;
        let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
        let raised: String = power
            .to_string()
            .chars()
            .map(|digit| digit.to_digit(10).map_or('⁻', |digit| digits[digit as usize]))
            .collect();
        let factor = (value / 10f64.powi(power)).round();
        return if factor == 1.0 { format!("10{raised}") } else { format!("{factor}·10{raised}") };
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Plot {
    /// The file.
    pub fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let across = Axis::over(points().map(|(size, _)| *size), LEFT, RIGHT);
        let up = Axis::over(points().map(|(_, value)| *value), BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">\n\
             <style>{STYLE}</style>\n<text class=\"title\" x=\"{LEFT}\" y=\"28\">{0}</text>\n",
            escaped(&self.title)
        );
        for tick in across.ticks() {
            let (x, text) = (across.at(tick), number(tick));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                BOTTOM + 20.0
            );
        }
        for tick in up.ticks() {
            let (y, text) = (up.at(tick), number(tick));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        let middle = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(20 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            middle.0,
            BOTTOM + 48.0,
            escaped(&self.across),
            middle.1,
            escaped(&self.up)
        );
        self.draw_curves(&across, &up, &mut svg);
        svg + "</svg>\n"
    }

    fn draw_curves(&self, across: &Axis, up: &Axis, svg: &mut String) {
        let mut names: Vec<(f64, usize, &str)> = Vec::new();
        for (index, curve) in self.curves.iter().enumerate() {
            let places: Vec<(f64, f64)> =
                curve.points.iter().map(|(size, value)| (across.at(*size), up.at(*value))).collect();
            let list: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(svg, "<polyline class=\"line c{index}\" points=\"{}\"/>", list.join(" "));
            for (x, y) in &places {
                let _ = match index % 2 {
                    0 => {
                        writeln!(svg, "<circle class=\"mark c{index}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>")
                    }
                    _ => writeln!(
                        svg,
                        "<rect class=\"mark c{index}\" x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"/>",
                        x - 3.5,
                        y - 3.5
                    ),
                };
            }
            if let Some((_, y)) = places.last() {
                names.push((*y, index, &curve.name));
            }
        }
        // Each name at the end of its curve, and below the one above it.
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut lowest = f64::MIN;
        for (y, index, name) in names {
            let y = (y + 4.0).max(lowest + 16.0);
            lowest = y;
            let _ = writeln!(
                svg,
                "<text class=\"name c{index}\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                RIGHT + 10.0,
                escaped(name)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_covers_its_values() {
        for values in [vec![3.0], vec![1.0, 1e6], vec![0.02, 0.9], vec![10.0, 10.0], vec![]] {
            let axis = Axis::over(values.iter().copied(), 0.0, 100.0);
            assert!(values.iter().all(|value| (-0.1..=100.1).contains(&axis.at(*value))), "{values:?}");
            assert!((2..=12).contains(&axis.ticks().len()), "{values:?}: {:?}", axis.ticks());
        }
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> = [0.05, 1.0, 2000.0, 10_000.0, 5e6].into_iter().map(number).collect();
        assert_eq!(shown, ["0.05", "1", "2000", "10⁴", "5·10⁶"]);
    }

    #[test]
    fn names_do_not_lie_on_each_other() {
        let curve = |name: &str| Curve { name: name.to_owned(), points: vec![(1.0, 5.0), (10.0, 5.0)] };
        let plot = Plot {
            title: "a < b".to_owned(),
            across: "x".to_owned(),
            up: "y".to_owned(),
            curves: vec![curve("one"), curve("two")],
        };
        let svg = plot.svg();
        assert!(svg.contains("a &lt; b") && svg.matches("<polyline").count() == 2);
        let places: Vec<&str> = svg.lines().filter(|line| line.contains("class=\"name")).collect();
        assert_ne!(places[0].split("y=").nth(1), places[1].split("y=").nth(1));
    }
}
