//! A topology as a picture: in DOT for Graphviz, or as an SVG that needs no other program.
use crate::model::{Connection, Node, NodeKind, Schedule, Topology};
use std::collections::HashMap;
use std::fmt::Write;

/// What is drawn in a node's box: its name, then what there is to say.
fn lines(topology: &Topology, node: &Node) -> Vec<String> {
    let place = match node.port {
        Some(port) => format!("{} · {}:{port}", node.kind.as_str(), node.address),
        None => format!("{} · {}", node.kind.as_str(), node.address),
    };
    let mut lines = vec![node.name.clone(), place];
    if !node.capabilities.is_empty() {
        lines.push(node.capabilities.join(" "));
    }
    let mut resources = format!("cpu {}", node.resources.cpu);
    if let Some(memory) = node.resources.memory {
        let _ = write!(resources, ", {memory}");
    }
    lines.push(resources);
    if topology.scheduler() == Some(node) {
        let schedules = topology.schedules.iter();
        lines.extend(schedules.map(|schedule| {
            let Schedule {
                name, cron, timezone, ..
            } = schedule;
            format!("{name}: {cron} ({timezone})")
        }));
    }
    lines
}

fn label(connection: &Connection) -> String {
    let mut parts = vec![connection.protocol.clone()];
    parts.extend(connection.bandwidth.map(|rate| rate.to_string()));
    parts.extend(connection.latency.map(|latency| latency.to_string()));
    parts.join(", ")
}

impl Topology {
    /// The topology in the DOT language of Graphviz.
    pub fn to_dot(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut out =
            "digraph topology {\n    rankdir=TB;\n    node [shape=box, style=rounded];\n".to_owned();
        for node in &self.nodes {
            let text = lines(self, node)
                .iter()
                .map(|line| quoted(line)[1..].trim_end_matches('"').to_owned())
                .collect::<Vec<_>>();
            let _ = writeln!(
                out,
                "    {} [label=\"{}\"];",
                quoted(&node.name),
                text.join("\\n")
            );
        }
        for kind in [NodeKind::Master, NodeKind::Worker, NodeKind::Client] {
            let names: Vec<String> = self.of_kind(kind).map(|node| quoted(&node.name)).collect();
            if !names.is_empty() {
                let _ = writeln!(out, "    {{ rank=same; {} }}", names.join("; "));
            }
        }
        for connection in &self.connections {
            let (from, to, text) = (
                quoted(&connection.from),
                quoted(&connection.to),
                quoted(&label(connection)),
            );
            let _ = writeln!(out, "    {from} -> {to} [label={text}];");
        }
        out.push_str("}\n");
        out
    }

    fn of_kind(&self, kind: NodeKind) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.kind == kind)
    }

    /// The topology as an SVG: masters above, workers below, clients at the bottom; rows that get too long go on below. The ends
    /// of a connection are joined by a line, and the lower one says what is known of it, so that no two texts can meet.
    pub fn to_svg(&self) -> String {
        let drawing = Drawing::lay_out(self);
        // The page has no colour of its own: boxes bring theirs, and lines can be seen on light and on dark.
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
             font-family=\"sans-serif\" font-size=\"{FONT}\" text-anchor=\"middle\">\n\
             <style>rect {{ fill: #fff; stroke: #456; }} .master {{ fill: #e6f0fb; }} .client {{ fill: #f6f3ea; }} \
             polyline {{ fill: none; stroke: #789; }} text {{ fill: #123; }} .name {{ font-weight: bold; }} \
             .link {{ fill: #567; font-size: 12px; }}</style>\n",
            w = drawing.width,
            h = drawing.height
        );
        for line in &drawing.lines {
            let points: Vec<String> = line.points.iter().map(|(x, y)| format!("{x},{y}")).collect();
            let _ = writeln!(out, "<polyline points=\"{}\"/>", points.join(" "));
        }
        for placed in &drawing.boxes {
            let (x, y, width, height) = (placed.x, placed.y, drawing.box_width, placed.height);
            let kind = placed.node.kind.as_str();
            let _ = writeln!(
                out,
                "<rect class=\"{kind}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>"
            );
            for (at, line) in placed.lines.iter().enumerate() {
                let class = match at {
                    0 => " class=\"name\"",
                    _ if at >= placed.links_from => " class=\"link\"",
                    _ => "",
                };
                let (middle, base) = (x + width / 2, y + PAD + at as u32 * LINE + FONT - 3);
                let _ = writeln!(
                    out,
                    "<text{class} x=\"{middle}\" y=\"{base}\">{}</text>",
                    escaped(line)
                );
            }
        }
        out.push_str("</svg>\n");
        out
    }
}

// In pixels.
const FONT: u32 = 14;
const LINE: u32 = 19;
const PAD: u32 = 12;
const GAP_X: u32 = 40;
const GAP_Y: u32 = 70;
const MARGIN: u32 = 24;
/// Where a row of boxes goes on below.
const MAX_WIDTH: u32 = 1600;

/// A node's box.
struct Placed<'a> {
    node: &'a Node,
    lines: Vec<String>,
    /// Which of the lines is the first that tells of a connection.
    links_from: usize,
    row: usize,
    x: u32,
    y: u32,
    height: u32,
}

/// A connection's line, from one box to another.
struct Line {
    points: Vec<(u32, u32)>,
}

/// Boxes on a grid. Lines pass rows between its columns, where there are no boxes.
struct Drawing<'a> {
    boxes: Vec<Placed<'a>>,
    lines: Vec<Line>,
    box_width: u32,
    width: u32,
    height: u32,
}

impl<'a> Drawing<'a> {
    fn lay_out(topology: &'a Topology) -> Drawing<'a> {
        // Rows depend on how wide boxes are, and what a box says of its connections on which of two is the lower one: the kind and
        // then the order of the nodes tell.
        let kinds = [NodeKind::Master, NodeKind::Worker, NodeKind::Client];
        let mut boxes: Vec<Placed<'a>> = kinds
            .into_iter()
            .flat_map(|kind| topology.of_kind(kind))
            .map(|node| {
                let lines = lines(topology, node);
                Placed {
                    node,
                    links_from: lines.len(),
                    lines,
                    row: 0,
                    x: 0,
                    y: 0,
                    height: 0,
                }
            })
            .collect();
        let by_name: HashMap<&str, usize> = boxes
            .iter()
            .enumerate()
            .map(|(at, placed)| (placed.node.name.as_str(), at))
            .collect();
        let mut pairs = Vec::new();
        for connection in &topology.connections {
            let ends = (
                by_name.get(connection.from.as_str()),
                by_name.get(connection.to.as_str()),
            );
            let (Some(&from), Some(&to)) = ends else { continue };
            let (upper, lower) = (from.min(to), from.max(to));
            let text = format!("{}: {}", boxes[upper].node.name, label(connection));
            boxes[lower].lines.push(text);
            pairs.push((upper, lower));
        }

        let longest = boxes.iter().flat_map(|placed| &placed.lines);
        let longest = longest.map(|line| line.chars().count()).max().unwrap_or(0) as u32;
        // Eight pixels a character is wide enough for the widest common fonts of this size.
        let box_width = longest * 8 + 2 * PAD;
        let pitch = box_width + GAP_X;
        let most = ((MAX_WIDTH - 2 * MARGIN + GAP_X) / pitch).max(1) as usize;

        let mut rows: Vec<std::ops::Range<usize>> = Vec::new();
        let mut start = 0;
        for kind in kinds {
            let end = start + topology.of_kind(kind).count();
            while start < end {
                let row = start..end.min(start + most);
                start = row.end;
                rows.push(row);
            }
        }
        let columns = rows.iter().map(|row| row.len()).max().unwrap_or(0) as u32;
        let width = (2 * MARGIN + columns * pitch)
            .saturating_sub(GAP_X)
            .max(2 * MARGIN);
        let mut y = MARGIN;
        let mut tops = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let free = (columns - row.len() as u32) * pitch;
            // Lines pass between the columns of the rows in the middle; the outer rows may stand anywhere.
            let outer = at == 0 || at + 1 == rows.len();
            let left = MARGIN + if outer { free / 2 } else { free / 2 / pitch * pitch };
            tops.push(y);
            let mut tallest = 0;
            for (column, placed) in boxes[row.clone()].iter_mut().enumerate() {
                placed.height = placed.lines.len() as u32 * LINE + 2 * PAD - 6;
                tallest = tallest.max(placed.height);
                (placed.row, placed.x, placed.y) = (at, left + column as u32 * pitch, y);
            }
            y += tallest + GAP_Y;
        }
        let height = if rows.is_empty() {
            2 * MARGIN
        } else {
            y - GAP_Y + MARGIN
        };

        let middle = |placed: &Placed<'_>| placed.x + box_width / 2;
        let lines = pairs.into_iter().map(|(upper, lower)| {
            let (from, to) = (&boxes[upper], &boxes[lower]);
            let (begin, end) = (middle(from), middle(to));
            let bottom = from.y + from.height;
            if from.row == to.row {
                let points = if lower == upper + 1 {
                    let half = from.height.min(to.height) / 2;
                    vec![(from.x + box_width, from.y + half), (to.x, to.y + half)]
                } else {
                    // Below the boxes between.
                    let below = tops
                        .get(from.row + 1)
                        .map_or(height - MARGIN, |next| next - GAP_Y)
                        + MARGIN / 2;
                    vec![
                        (begin, bottom),
                        (begin, below),
                        (end, below),
                        (end, to.y + to.height),
                    ]
                };
                return Line { points };
            }
            let mut points = vec![(begin, bottom), (begin, tops[from.row + 1] - GAP_Y)];
            if to.row > from.row + 1 {
                // Beside the column above the lower box, on the side of the upper one.
                let column = (end - MARGIN) / pitch + u32::from(begin > end);
                let between = (MARGIN + column * pitch).saturating_sub(GAP_X / 2);
                points.extend([(between, tops[from.row + 1]), (between, tops[to.row] - GAP_Y)]);
            }
            points.push((end, to.y));
            points.dedup();
            Line { points }
        });
        Drawing {
            lines: lines.collect(),
            boxes,
            box_width,
            width,
            height,
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Whether a line goes through a box, looked at in small steps.
    fn meets(line: &Line, x: u32, y: u32, width: u32, height: u32) -> bool {
        line.points.windows(2).any(|ends| {
            let [(x1, y1), (x2, y2)] = [ends[0], ends[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
            (0..=1000).any(|step| {
                let part = f64::from(step) / 1000.0;
                let (px, py) = (x1 + (x2 - x1) * part, y1 + (y2 - y1) * part);
                let (x, y, width, height) = (f64::from(x), f64::from(y), f64::from(width), f64::from(height));
                px > x && px < x + width && py > y && py < y + height
            })
        })
    }

    #[test]
    fn no_line_goes_through_a_box_and_all_is_on_the_page() {
        for workers in [0, 1, 2, 3, 9, 36, 61] {
            let mut text = "node hub { type master; port 1 }\nnode spare { type master; port 2 }\n\
                            node third { type master; port 3 }\nconnection hub -> spare\nconnection third -> hub\n\
                            node web { type client }\nnode console { type client; address much.longer.example }\n\
                            connection web -> hub\nconnection spare -> console\nnode last { type client }\nconnection web -> last\n"
                .to_owned();
            for n in 0..workers {
                let _ = writeln!(text, "node w{n} {{ type worker; capabilities a{n} }}");
                let _ = writeln!(text, "connection hub -> w{n} {{ latency 1ms }}");
                if n % 3 == 0 {
                    let _ = writeln!(text, "connection w{n} -> third\nconnection web -> w{n}");
                }
                if n > 4 && n % 5 == 0 {
                    let _ = writeln!(text, "connection w{n} -> w{}", n - 3);
                }
            }
            let topology = Topology::parse(&text).unwrap();
            let drawing = Drawing::lay_out(&topology);
            assert_eq!(drawing.boxes.len(), workers + 6);
            assert_eq!(drawing.lines.len(), topology.connections.len());
            for (at, one) in drawing.boxes.iter().enumerate() {
                let (right, bottom) = (one.x + drawing.box_width, one.y + one.height);
                assert!(right <= drawing.width && bottom <= drawing.height);
                for other in &drawing.boxes[at + 1..] {
                    let apart = other.x >= right || other.x + drawing.box_width <= one.x || other.y >= bottom;
                    assert!(apart, "{} is over {}", other.node.name, one.node.name);
                }
                for line in &drawing.lines {
                    let through = meets(line, one.x, one.y, drawing.box_width, one.height);
                    assert!(
                        !through,
                        "{:?} go through {} of {workers}",
                        line.points, one.node.name
                    );
                }
            }
            for (x, y) in drawing.lines.iter().flat_map(|line| &line.points) {
                assert!(
                    *x <= drawing.width && *y <= drawing.height,
                    "{x},{y} of {workers}"
                );
            }
        }
    }
}
