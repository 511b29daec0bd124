//! The cluster as lines and signs for a terminal: a tree from the master to the nodes, group by group.
//!
//! No line is wider than the terminal. Of a crowd, nodes that need somebody have a line each, and the others stand side
//! by side.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::scene::{Detail, Group, Scene, Spot};
use crate::{
    output::{Look, Tone},
    text::{age, clean, or_nothing},
    words,
};

/// Between two nodes that stand side by side.
const GAP: usize = 2;
/// Letters of the time of a link.
const TIME: usize = 7;

type Pieces = Vec<(Tone, String)>;

/// The picture, each line ended.
pub fn picture(scene: &Scene<'_>, look: &Look) -> String {
    let has_times = scene.spots().any(|spot| spot.round_trip().is_some());
    let mut out = Drawing { look, detail: scene.detail, has_times, text: String::new() };
    out.line("", vec![(Tone::Strong, or_nothing(scene.name)), after(Tone::Plain, &scene.about)]);
    if !scene.parent.is_empty() {
        out.line("", vec![(Tone::Plain, format!("child of {}", clean(scene.parent)))]);
    }
    let master = &scene.master;
    let mut line = vec![(master.tone, format!("{} ", master.sign())), strong("master")];
    line.extend(badge(master.firing));
    line.push(after(Tone::Plain, &or_nothing(&master.address)));
    line.push(after(Tone::Plain, &clean(&master.about)));
    out.line("", line);
    if scene.spots().next().is_none() {
        out.line("", vec![(Tone::Plain, "no board has joined yet".to_owned())]);
        return out.text;
    }
    let (boards, groups) = (scene.boards.len(), scene.groups.len());
    for (index, board) in scene.boards.iter().enumerate() {
        out.node(board, "", index + 1 == boards && groups == 0);
    }
    for (index, group) in scene.groups.iter().enumerate() {
        out.group(group, index + 1 == groups);
    }
    out.text
}

struct Drawing<'a> {
    look: &'a Look,
    detail: Detail,
    /// Whether links have room for the time that they take.
    has_times: bool,
    text: String,
}

impl Drawing<'_> {
    /// Cut to what fits.
    fn line(&mut self, indent: &str, pieces: Pieces) {
        self.text.push_str(indent);
        let mut room = self
            .look
            .width
            .map_or(usize::MAX, |width| usize::from(width).saturating_sub(indent.width()));
        for (tone, piece) in pieces {
            let shown = cut(&piece, room);
            self.text.push_str(&self.look.paint(tone, &shown));
            if shown != piece {
                break;
            }
            room -= piece.width();
        }
        let end = self.text.trim_end_matches(' ').len();
        self.text.truncate(end);
        self.text.push('\n');
    }

    fn group(&mut self, group: &Group<'_>, last: bool) {
        let Some(title) = &group.title else {
            return self.nodes(&group.spots, "");
        };
        let corner = if last { "└─ " } else { "├─ " };
        let mut line = vec![strong(title)];
        line.push(after(Tone::Faint, &group.about()));
        self.line(corner, line);
        self.nodes(&group.spots, if last { "   " } else { "│  " });
    }

    fn nodes(&mut self, spots: &[Spot<'_>], indent: &str) {
        let is_packed = |spot: &Spot<'_>| self.detail == Detail::Tile && spot.is_quiet();
        let (packed, own): (Vec<_>, Vec<_>) = spots.iter().partition(|spot| is_packed(spot));
        for (index, spot) in own.iter().enumerate() {
            self.node(spot, indent, packed.is_empty() && index + 1 == own.len());
        }
        self.side_by_side(&packed, indent);
    }

    /// A node, its link, and what is in it.
    fn node(&mut self, spot: &Spot<'_>, indent: &str, last: bool) {
        let (node, tone) = (spot.node, spot.tone());
        let is_card = self.detail == Detail::Card;
        let mut line = vec![(tone, format!("{} ", spot.sign())), strong(&node.name)];
        line.extend(badge(spot.firing));
        if node.role == piccolo_rpc::v1::NodeRole::Master as i32 {
            line.push(after(Tone::Plain, &words::role(node.role)));
        }
        let since = node.status_since.as_ref();
        line.push(match since {
            Some(_) if is_card => {
                let for_how_long = age(self.look.now, since);
                after(tone, &format!("{} for {for_how_long}", words::status(node.status)))
            }
            _ => after(tone, &words::status(node.status)),
        });
        if is_card {
            line.push(after(Tone::Plain, &or_nothing(&node.ip)));
        }
        let lines = spot.lines(self.detail);
        if !is_card {
            line.extend(lines.iter().map(|(tone, text)| after(*tone, &clean(text))));
        }
        let (corner, trunk) = if last { ("└", " ") } else { ("├", "│") };
        let link = self.link(spot);
        self.line(&format!("{indent}{corner}{link} "), line);
        let inner = format!("{indent}{trunk}{}", " ".repeat(link.width() + 3));
        for (tone, text) in lines.into_iter().filter(|_| is_card) {
            self.line(&inner, vec![(tone, clean(&text).into_owned())]);
        }
    }

    /// Dashed without a session, and thick where much runs over it.
    fn link(&self, spot: &Spot<'_>) -> String {
        let stroke = match (spot.node.connected, spot.is_thick()) {
            (false, _) => "╌",
            (true, true) => "━",
            (true, false) => "─",
        };
        if !self.has_times {
            return stroke.to_owned();
        }
        match spot.round_trip() {
            Some(time) => format!("{stroke} {time:>TIME$} {stroke}"),
            None => stroke.repeat(TIME + 4),
        }
    }

    /// Those that are well: name, the time of the link, and containers.
    fn side_by_side(&mut self, spots: &[&Spot<'_>], indent: &str) {
        let cells: Vec<String> = spots
            .iter()
            .map(|spot| {
                let figures = [spot.round_trip(), spot.counts().map(|(_, counts)| counts)];
                let figures = figures.into_iter().flatten();
                figures.fold(clean(&spot.node.name).into_owned(), |cell, more| cell + " " + &more)
            })
            .collect();
        let width = cells.iter().map(|cell| cell.width()).max().unwrap_or_default();
        let room = self.look.width.map_or(0, usize::from).saturating_sub(indent.width() + 3);
        // each with its sign and the blank behind it
        let columns = ((room + GAP) / (width + 2 + GAP)).max(1);
        let rows: Vec<_> = spots.chunks(columns).zip(cells.chunks(columns)).collect();
        for (index, (spots, cells)) in rows.iter().enumerate() {
            let corner = if index == 0 { "└─ " } else { "   " };
            let line = spots.iter().zip(*cells).flat_map(|(spot, cell)| {
                let blank = " ".repeat(width + GAP - cell.width());
                let sign = (spot.tone(), format!("{} ", spot.sign()));
                [sign, (Tone::Plain, cell.clone()), (Tone::Plain, blank)]
            });
            let mut line: Pieces = line.collect();
            // nothing behind the last
            line.pop();
            self.line(&format!("{indent}{corner}"), line);
        }
    }
}

fn strong(text: &str) -> (Tone, String) {
    (Tone::Strong, clean(text).into_owned())
}

fn after(tone: Tone, text: &str) -> (Tone, String) {
    (tone, format!("  {text}"))
}

fn badge(firing: super::scene::Firing) -> Option<(Tone, String)> {
    firing.words().map(|words| after(firing.tone(), &format!("▲ {words}")))
}

/// What fits, with an ellipsis where that is not all.
fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or_default();
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut shown: String = text.chars().take_while(fits).collect();
    if room > 0 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_ends_with_an_ellipsis() {
        for (room, expect) in [(6, "보드 a"), (5, "보드…"), (4, "보…"), (1, "…"), (0, "")]
        {
            assert_eq!(cut("보드 a", room), expect, "{room}");
        }
    }
}
