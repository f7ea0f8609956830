//! A topology as a picture: in DOT for Graphviz, or as an SVG that needs no other program.
use crate::model::{Connection, Node, NodeKind, Topology};
use std::collections::HashMap;
use std::fmt::Write;

/// What is drawn in a node's box: its name, then what there is to say.
fn lines(node: &Node) -> Vec<String> {
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
            let text = lines(node)
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

    /// The topology as an SVG: masters above, workers below, clients at the bottom; rows that get too long go on below.
    pub fn to_svg(&self) -> String {
        let drawing = Drawing::lay_out(self);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
             font-family=\"sans-serif\" font-size=\"{FONT}\" text-anchor=\"middle\">\n\
             <style>rect {{ fill: #fff; stroke: #456; }} .master {{ fill: #eef4fb; }} .client {{ fill: #f6f3ea; }} \
             line {{ stroke: #89a; }} .name {{ font-weight: bold; }} .link {{ fill: #567; font-size: 11px; paint-order: stroke; stroke: #fff; stroke-width: 5px; }}</style>\n",
            w = drawing.width,
            h = drawing.height
        );
        let by_name: HashMap<&str, &Placed> = drawing
            .boxes
            .iter()
            .map(|placed| (placed.node.name.as_str(), placed))
            .collect();
        for connection in &self.connections {
            let ends = (
                by_name.get(connection.from.as_str()),
                by_name.get(connection.to.as_str()),
            );
            let (Some(from), Some(to)) = ends else { continue };
            let (upper, lower) = if from.y <= to.y { (from, to) } else { (to, from) };
            let (x1, y1, x2, y2) = if upper.y == lower.y {
                let (left, right) = if from.x <= to.x { (from, to) } else { (to, from) };
                (
                    left.x + left.width,
                    left.y + left.height / 2,
                    right.x,
                    right.y + right.height / 2,
                )
            } else {
                (
                    upper.x + upper.width / 2,
                    upper.y + upper.height,
                    lower.x + lower.width / 2,
                    lower.y,
                )
            };
            let _ = writeln!(out, "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
            // Just above the lower box, where lines from one master have spread out.
            let _ = writeln!(
                out,
                "<text class=\"link\" x=\"{}\" y=\"{}\">{}</text>",
                x2,
                y2 - 6,
                escaped(&label(connection))
            );
        }
        for placed in &drawing.boxes {
            let (x, y, kind) = (placed.x, placed.y, placed.node.kind.as_str());
            let _ = writeln!(
                out,
                "<rect class=\"{kind}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"6\"/>",
                placed.width, placed.height
            );
            for (at, line) in placed.lines.iter().enumerate() {
                let class = if at == 0 { " class=\"name\"" } else { "" };
                let (middle, base) = (x + placed.width / 2, y + PAD + at as u32 * LINE + FONT - 3);
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

struct Placed<'a> {
    node: &'a Node,
    lines: Vec<String>,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

struct Drawing<'a> {
    boxes: Vec<Placed<'a>>,
    width: u32,
    height: u32,
}

impl<'a> Drawing<'a> {
    fn lay_out(topology: &'a Topology) -> Drawing<'a> {
        let mut rows: Vec<Vec<Placed<'a>>> = Vec::new();
        for kind in [NodeKind::Master, NodeKind::Worker, NodeKind::Client] {
            let mut row: Vec<Placed<'a>> = Vec::new();
            let mut x = MARGIN;
            for node in topology.of_kind(kind) {
                let lines = lines(node);
                let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) as u32;
                // Eight pixels a character is wide enough for the widest common fonts of this size.
                let (width, height) = (longest * 8 + 2 * PAD, lines.len() as u32 * LINE + 2 * PAD - 6);
                if !row.is_empty() && x + width > MAX_WIDTH {
                    rows.push(std::mem::take(&mut row));
                    x = MARGIN;
                }
                row.push(Placed {
                    node,
                    lines,
                    x,
                    y: 0,
                    width,
                    height,
                });
                x += width + GAP_X;
            }
            if !row.is_empty() {
                rows.push(row);
            }
        }
        let row_width = |row: &Vec<Placed<'_>>| row.last().map_or(0, |last| last.x + last.width + MARGIN);
        let width = rows.iter().map(row_width).max().unwrap_or(2 * MARGIN);
        let mut y = MARGIN;
        for row in &mut rows {
            let shift = (width - row_width(row)) / 2;
            let height = row.iter().map(|placed| placed.height).max().unwrap_or(0);
            for placed in row.iter_mut() {
                placed.x += shift;
                placed.y = y;
            }
            y += height + GAP_Y;
        }
        let height = if rows.is_empty() {
            2 * MARGIN
        } else {
            y - GAP_Y + MARGIN
        };
        Drawing {
            boxes: rows.into_iter().flatten().collect(),
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
