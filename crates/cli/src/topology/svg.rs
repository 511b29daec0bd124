//! The cluster as an SVG file: the master above with the boards that carry it, below them the groups of nodes as cards.
//!
//! The same look as the web console's, in its light colours, with no font and no script of its own: any program shows it.
//! A line runs from the master along each shelf of groups, down the left side of each group, and along its rows. `place`
//! says where all that stands.

mod place;

use std::fmt::Write as _;

use super::scene::{Detail, Firing, Group, Master, Scene, Spot};
use crate::{output::Tone, text::clean, words};
use place::{Card, Frame, Layout, MARGIN, MASTER_HEIGHT, MASTER_WIDTH, PARENT_HEIGHT, place};

const LINE: usize = 19;
const INK: &str = "#17222c";
const FAINT: &str = "#51606d";
const TRUNK: &str = "#a3b0bb";

/// The picture as a file.
pub fn svg(scene: &Scene<'_>) -> String {
    let layout = place(scene);
    let (width, height) = (layout.width, layout.height);
    let name = xml(scene.name, width);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>{name}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#f3f5f7\"/>\n"
    );
    text(&mut out, (MARGIN, MARGIN + 12), "font-size=\"20\" font-weight=\"bold\"", INK, &name);
    text(&mut out, (MARGIN, MARGIN + 32), "", FAINT, &xml(&scene.about, width));
    for (frame, group) in layout.frames.iter().zip(&scene.groups) {
        draw_frame(&mut out, frame, group);
    }
    draw_links(&mut out, &layout);
    if !scene.parent.is_empty() {
        draw_parent(&mut out, &layout, scene.parent);
    }
    draw_master(&mut out, &layout, scene.name, &scene.master);
    for card in &layout.boards {
        draw_card(&mut out, card, Detail::Card);
    }
    for card in layout.frames.iter().flat_map(|frame| frame.rows.iter().flatten()) {
        draw_card(&mut out, card, scene.detail);
    }
    out.push_str("</svg>\n");
    out
}

fn text(out: &mut String, (x, y): (usize, usize), font: &str, fill: &str, escaped: &str) {
    let gap = if font.is_empty() { "" } else { " " };
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\"{gap}{font} fill=\"{fill}\">{escaped}</text>");
}

fn draw_frame(out: &mut String, frame: &Frame<'_>, group: &Group<'_>) {
    let Some(title) = &group.title else { return };
    let _ = writeln!(
        out,
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"14\" fill=\"#e7ecf0\"/>",
        frame.x, frame.y, frame.width, frame.height
    );
    let room = frame.width - 2 * place::SPINE;
    let at = (frame.x + place::SPINE + 4, frame.y + 22);
    let told = format!("<title>{}: {}</title>{}", whole(title), group.about(), xml(title, room));
    text(out, at, "font-weight=\"bold\"", INK, &told);
}

/// All lines, below everything else.
fn draw_links(out: &mut String, layout: &Layout<'_>) {
    let middle = layout.master.0 + MASTER_WIDTH / 2;
    let mut trunk = |path: String| {
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{TRUNK}\" stroke-width=\"2\"/>"
        );
    };
    let rails = layout.shelves.iter().map(|shelf| shelf.rail);
    if let (Some(first), Some(last)) = (rails.clone().min(), rails.max()) {
        trunk(format!("M{middle} {}V{first}", layout.master.1 + MASTER_HEIGHT));
        if layout.shelves.len() > 1 {
            trunk(format!("M{middle} {first}H{MARGIN}V{last}"));
        }
    }
    for shelf in &layout.shelves {
        let from = if layout.shelves.len() > 1 { MARGIN } else { middle };
        let spines = || shelf.frames.clone().filter_map(|index| layout.frames.get(index));
        let ends = || spines().map(Frame::spine).chain([from]);
        if let (Some(left), Some(right)) = (ends().min(), ends().max()) {
            trunk(format!("M{left} {}H{right}", shelf.rail));
        }
        for frame in spines() {
            let lowest = frame.rows.last().and_then(|row| row.first()).map_or(0, Card::rail);
            trunk(format!("M{} {}V{lowest}", frame.spine(), shelf.rail));
            for row in &frame.rows {
                if let (Some(first), Some(last)) = (row.first(), row.last()) {
                    trunk(format!("M{} {}H{}", frame.spine(), first.rail(), last.middle()));
                }
            }
        }
    }
    for card in layout.frames.iter().flat_map(|frame| frame.rows.iter().flatten()) {
        let path = format!("M{} {}V{}", card.middle(), card.rail(), card.y);
        draw_link(out, card.spot, &path, (card.middle() - 6, card.y - 5));
    }
    for board in &layout.boards {
        let y = layout.master.1 + MASTER_HEIGHT / 2;
        let is_left = board.x < layout.master.0;
        let from = if is_left { layout.master.0 } else { layout.master.0 + MASTER_WIDTH };
        let to = if is_left { board.x + board.width } else { board.x };
        draw_link(out, board.spot, &format!("M{from} {y}H{to}"), (from.max(to) - 4, y - 6));
    }
}

/// Dashed without a session, and as thick as what runs over it. Its time ends at `words`: badges are at the right.
fn draw_link(out: &mut String, spot: &Spot<'_>, path: &str, words: (usize, usize)) {
    let (colour, dash) = match spot.node.connected {
        true => (TRUNK, ""),
        false => (colour(spot.tone()), " stroke-dasharray=\"5 4\""),
    };
    let width = spot.thickness() + 1.0;
    let _ = writeln!(
        out,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width:.1}\"{dash}/>"
    );
    if let Some(time) = spot.round_trip() {
        text(out, words, "font-size=\"11\" text-anchor=\"end\"", FAINT, &time);
    }
}

fn draw_parent(out: &mut String, layout: &Layout<'_>, parent: &str) {
    let (x, y) = (layout.master.0 + 32, layout.parent);
    let middle = layout.master.0 + MASTER_WIDTH / 2;
    let _ = writeln!(
        out,
        "<path d=\"M{middle} {y}V{}\" stroke=\"{TRUNK}\" stroke-width=\"2\"/>\n\
         <rect x=\"{x}\" y=\"{y}\" width=\"200\" height=\"{PARENT_HEIGHT}\" rx=\"22\" fill=\"#fff\" stroke=\"{TRUNK}\"/>",
        layout.master.1
    );
    text(out, (x + 24, y + 18), "font-size=\"11\"", FAINT, "parent cluster");
    text(out, (x + 24, y + 35), "font-weight=\"bold\"", INK, &xml(parent, 160));
}

fn draw_master(out: &mut String, layout: &Layout<'_>, name: &str, master: &Master) {
    let (x, y) = layout.master;
    let tone = colour(master.tone);
    let _ = writeln!(
        out,
        "<g transform=\"translate({x} {y})\">\n\
         <rect width=\"{MASTER_WIDTH}\" height=\"{MASTER_HEIGHT}\" rx=\"16\" fill=\"#fff\" stroke=\"{tone}\" stroke-width=\"2\"/>\n\
         <path d=\"M24 12 36 24 24 36 12 24z\" fill=\"{tone}\"/>"
    );
    let room = MASTER_WIDTH - 60;
    text(out, (46, 30), "font-size=\"17\" font-weight=\"bold\"", INK, &xml(name, room - 40));
    text(out, (46, 51), "", FAINT, &xml(&format!("master {}", master.address), room));
    text(out, (46, 69), "", FAINT, &xml(&master.about, room));
    draw_badge(out, master.firing, MASTER_WIDTH);
    out.push_str("</g>\n");
}

fn draw_card(out: &mut String, card: &Card<'_>, detail: Detail) {
    let Card { spot, x, y, width, height } = card;
    let (node, tone) = (spot.node, colour(spot.tone()));
    let _ = writeln!(
        out,
        "<g transform=\"translate({x} {y})\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"12\" fill=\"#fff\" stroke=\"{tone}\" stroke-width=\"1.5\"/>\n{}",
        sign(spot.tone(), tone),
    );
    let name = format!("<title>{}</title>{}", whole(&node.name), xml(&node.name, width - 44));
    text(out, (40, 27), "font-size=\"15\" font-weight=\"bold\"", INK, &name);
    let state = match detail {
        Detail::Card => {
            Some(format!("{}, {}, {}", words::role(node.role), words::status(node.status), node.ip))
        }
        Detail::Compact => Some(words::status(node.status)),
        Detail::Tile => None,
    };
    if let Some(state) = state {
        text(out, (40, 46), "", FAINT, &xml(&state, width - 44));
    }
    let mut line_y = place::head(detail) + 12;
    for (tone, line) in spot.lines(detail) {
        text(out, (18, line_y), "", colour(tone), &xml(&line, width - 28));
        line_y += LINE;
    }
    draw_badge(out, spot.firing, *width);
    out.push_str("</g>\n");
}

/// On the upper edge, at the right.
fn draw_badge(out: &mut String, firing: Firing, card: usize) {
    let (Some(badge), Some(words)) = (firing.badge(), firing.words()) else { return };
    let width = badge.chars().count() * 6 + 18;
    let x = card.saturating_sub(width + 8);
    let _ = writeln!(
        out,
        "<g><title>alerts: {words}</title><rect x=\"{x}\" y=\"-9\" width=\"{width}\" height=\"18\" rx=\"9\" fill=\"{}\"/>\
         <text x=\"{}\" y=\"4\" text-anchor=\"middle\" font-size=\"11\" font-weight=\"bold\" fill=\"#fff\">{badge}</text></g>",
        colour(firing.tone()),
        x + width / 2
    );
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
    format!("<g fill=\"{colour}\">{shape}</g>")
}

fn colour(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "#18784a",
        Tone::Warning => "#8a5a00",
        Tone::Bad => "#b9302a",
        Tone::Plain | Tone::Faint | Tone::Strong => FAINT,
    }
}

/// Cut to what fits into `room`.
fn xml(text: &str, room: usize) -> String {
    use unicode_width::UnicodeWidthStr as _;
    /// Of a letter of the usual size, in tenths.
    const LETTER: usize = 66;
    let cleaned = clean(text);
    let letters = 10 * room / LETTER;
    if cleaned.width() <= letters {
        return escaped(&cleaned);
    }
    let mut shown = String::new();
    for c in cleaned.chars() {
        if shown.width() + 2 > letters {
            break;
        }
        shown.push(c);
    }
    escaped(&format!("{shown}…"))
}

/// Not cut.
fn whole(text: &str) -> String {
    escaped(&clean(text))
}

/// Nothing that XML could take for something else.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_text() {
        assert_eq!(xml("<a href=\"x\">&", 200), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!(xml("\u{1b}[2J", 200), "\\u{1b}[2J");
        assert_eq!(xml(&"x".repeat(40), 66), format!("{}…", "x".repeat(9)));
    }
}
