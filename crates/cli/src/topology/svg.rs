//! The cluster as an SVG file: the masters above, below them the sub nodes as cards in rows, each with its containers.
//!
//! The same look as the web console's, in its light colours, with no font and no script of its own: any program shows it.

use piccolo_rpc::v1;

use super::graph::{by_container_name, by_name, container_line_plain};
use crate::{
    node::table::{container_tone, reason, round_trip, status_tone},
    output::Tone,
    text::clean,
    words,
};

const CARD_WIDTH: usize = 232;
const CARD_HEAD: usize = 62;
const LINE: usize = 19;
const GAP_X: usize = 32;
/// Between rows; the rail that feeds a row runs in it.
const GAP_Y: usize = 52;
const RAIL: usize = 22;
const MARGIN: usize = 28;
const TITLE: usize = 56;
const COLUMNS_MAX: usize = 6;
/// Letters of a line that fit into a card.
const LETTERS_MAX: usize = 30;

const INK: &str = "#17222c";
const FAINT: &str = "#51606d";
const TRUNK: &str = "#a3b0bb";

struct Card<'a> {
    node: &'a v1::Node,
    x: usize,
    y: usize,
}

/// The picture as a file.
pub fn svg(topology: &v1::ClusterTopology) -> String {
    let (masters, subs) = (by_name(&topology.master_nodes), by_name(&topology.sub_nodes));
    let columns = columns(masters.len().max(subs.len()));
    let width = 2 * MARGIN + columns * (CARD_WIDTH + GAP_X) - GAP_X;
    let (above, top) = rows(&masters, columns, width, MARGIN + TITLE, 1);
    // an odd row of these stands left of the middle, where nothing is in the way of what runs down
    let (below, bottom) = rows(&subs, columns, width, top, 2);
    let height = bottom.max(MARGIN + TITLE + GAP_Y) - GAP_Y + MARGIN;
    let name = xml(&topology.name);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>{name}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#f3f5f7\"/>\n\
         <text x=\"{MARGIN}\" y=\"{}\" font-size=\"20\" font-weight=\"bold\" fill=\"{INK}\">{name}</text>\n\
         <text x=\"{MARGIN}\" y=\"{}\" fill=\"{FAINT}\">{}, generation {}</text>\n",
        MARGIN + 12,
        MARGIN + 32,
        xml(&words::topology(topology.r#type)),
        topology.generation,
    );
    if let (Some(from), Some(first)) = (above.last(), below.first()) {
        trunk(&mut out, from, first.y, &below, width / 2);
    }
    for card in above.iter().chain(&below) {
        draw(&mut out, card);
    }
    out.push_str("</svg>\n");
    out
}

/// As wide as it is high, nearly; even, so that what feeds the rows runs between the middle two.
fn columns(count: usize) -> usize {
    (1..=COLUMNS_MAX)
        .filter(|columns| *columns == 1 || columns % 2 == 0)
        .find(|columns| columns * columns >= count)
        .unwrap_or(COLUMNS_MAX)
}

/// Cards from `top` downwards, each row in the middle as if it had a multiple of `places` cards, and where the next row
/// would begin.
fn rows<'a>(
    nodes: &[&'a v1::Node],
    columns: usize,
    width: usize,
    top: usize,
    places: usize,
) -> (Vec<Card<'a>>, usize) {
    let mut cards = Vec::new();
    let mut y = top;
    for row in nodes.chunks(columns) {
        let filled = row.len().next_multiple_of(places).min(columns);
        let mut x = (width + GAP_X - filled * (CARD_WIDTH + GAP_X)) / 2;
        for node in row {
            cards.push(Card { node, x, y });
            x += CARD_WIDTH + GAP_X;
        }
        y += row.iter().map(|node| height(node)).max().unwrap_or_default() + GAP_Y;
    }
    (cards, y)
}

fn height(node: &v1::Node) -> usize {
    let lines = node.containers.len() + usize::from(!node.conditions.is_empty());
    CARD_HEAD + lines * LINE + if lines > 0 { 8 } else { 0 }
}

/// From the last master down the middle, and a rail above each row.
fn trunk(out: &mut String, from: &Card<'_>, first: usize, below: &[Card<'_>], middle: usize) {
    let start = (from.x + CARD_WIDTH / 2, from.y + height(from.node));
    let turn = first - RAIL;
    let lowest = below.last().map_or(turn, |card| card.y - RAIL);
    out.push_str(&format!(
        "<path d=\"M{} {}V{turn}H{middle}V{lowest}\" fill=\"none\" stroke=\"{TRUNK}\" stroke-width=\"2\"/>\n",
        start.0, start.1
    ));
    for card in below {
        let (x, rail) = (card.x + CARD_WIDTH / 2, card.y - RAIL);
        let (colour, dash) = match card.node.connected {
            true => (TRUNK, ""),
            false => (colour(status_tone(card.node)), " stroke-dasharray=\"5 4\""),
        };
        out.push_str(&format!(
            "<path d=\"M{middle} {rail}H{x}\" stroke=\"{TRUNK}\" stroke-width=\"2\"/>\
             <path d=\"M{x} {rail}V{}\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\n",
            card.y
        ));
        if let Some(time) = round_trip(card.node) {
            out.push_str(&format!(
                "<text x=\"{}\" y=\"{}\" font-size=\"11\" fill=\"{FAINT}\">{time}</text>\n",
                x + 6,
                card.y - 6
            ));
        }
    }
}

fn draw(out: &mut String, Card { node, x, y }: &Card<'_>) {
    let tone = colour(status_tone(node));
    out.push_str(&format!(
        "<g transform=\"translate({x} {y})\">\n\
         <rect width=\"{CARD_WIDTH}\" height=\"{}\" rx=\"12\" fill=\"#fff\" stroke=\"{tone}\" stroke-width=\"1.5\"/>\n{}\
         <text x=\"40\" y=\"27\" font-size=\"15\" font-weight=\"bold\" fill=\"{INK}\">{}</text>\n\
         <text x=\"40\" y=\"46\" fill=\"{FAINT}\">{}</text>\n",
        height(node),
        sign(status_tone(node), tone),
        xml(&node.name),
        xml(&format!("{}, {}, {}", words::role(node.role), words::status(node.status), node.ip)),
    ));
    let mut line_y = CARD_HEAD + 12;
    let mut line = |content: &str, fill: &str| {
        out.push_str(&format!(
            "<text x=\"18\" y=\"{line_y}\" fill=\"{fill}\">{}</text>\n",
            xml(content)
        ));
        line_y += LINE;
    };
    if !node.conditions.is_empty() {
        line(&reason(node), tone);
    }
    for container in by_container_name(&node.containers) {
        line(&container_line_plain(container), colour(container_tone(container)));
    }
    out.push_str("</g>\n");
}

/// The state by its shape too: not everybody sees every colour.
fn sign(tone: Tone, colour: &str) -> String {
    let shape = match tone {
        Tone::Good => "<circle cx=\"22\" cy=\"22\" r=\"8\"/>",
        Tone::Warning => "<path d=\"M22 13 31 30H13z\"/>",
        Tone::Bad => "<path d=\"M18.5 14h7l5 5v7l-5 5h-7l-5-5v-7z\"/>",
        Tone::Plain | Tone::Faint | Tone::Strong => {
            "<rect x=\"14\" y=\"14\" width=\"16\" height=\"16\" rx=\"3\"/>"
        }
    };
    format!("<g fill=\"{colour}\">{shape}</g>\n")
}

fn colour(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "#18784a",
        Tone::Warning => "#8a5a00",
        Tone::Bad => "#b9302a",
        Tone::Plain | Tone::Faint | Tone::Strong => FAINT,
    }
}

/// Cut to what fits, and nothing in it that XML could take for something else.
fn xml(text: &str) -> String {
    let cleaned = clean(text);
    let mut shown: String = cleaned.chars().take(LETTERS_MAX).collect();
    if cleaned.chars().count() > LETTERS_MAX {
        shown.push('…');
    }
    shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_text() {
        assert_eq!(xml("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!(xml("\u{1b}[2J"), "\\u{1b}[2J");
        assert_eq!(xml(&"x".repeat(40)).chars().count(), LETTERS_MAX + 1);
    }

    #[test]
    fn rows_are_even_and_few() {
        let of = |count| columns(count);
        assert_eq!([0, 1, 2, 4, 5, 16, 17, 200].map(of), [1, 1, 2, 2, 4, 4, 6, 6]);
    }
}
