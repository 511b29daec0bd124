//! Where everything of the SVG stands: whole numbers, from the scene alone.

use std::ops::Range;

use super::LINE;
use crate::topology::scene::{Detail, Group, Scene, Spot};

pub(super) const MARGIN: usize = 28;
const TITLE: usize = 64;
pub(super) const MASTER_WIDTH: usize = 264;
pub(super) const MASTER_HEIGHT: usize = 84;
pub(super) const PARENT_HEIGHT: usize = 44;
/// Between the parent, the master and the boards that carry it.
const TIER_GAP: usize = 52;
/// Room at the left of a group, where the line runs that feeds its rows.
pub(super) const SPINE: usize = 24;
const PAD: usize = 16;
const GROUP_TITLE: usize = 32;
const GROUP_GAP: usize = 36;
const GAP_X: usize = 24;
/// From a line to the row that it feeds.
const RAIL: usize = 24;
/// From a row to the line of the next.
const GAP_Y: usize = 16;

/// Width over height that suits most screens, in tenths.
const ASPECT_TENTHS: usize = 16;

/// A node.
#[derive(Debug, Clone)]
pub(super) struct Card<'a> {
    pub(super) spot: &'a Spot<'a>,
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// A group.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) rows: Vec<Vec<Card<'a>>>,
}

/// Groups side by side, and the line above that feeds them.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) rail: usize,
    pub(super) frames: Range<usize>,
}

#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    /// The top of the parent cluster.
    pub(super) parent: usize,
    pub(super) master: (usize, usize),
    pub(super) boards: Vec<Card<'a>>,
    pub(super) frames: Vec<Frame<'a>>,
    pub(super) shelves: Vec<Shelf>,
}

impl Card<'_> {
    pub(super) fn middle(&self) -> usize {
        self.x + self.width / 2
    }

    pub(super) fn rail(&self) -> usize {
        self.y - RAIL
    }
}

impl Frame<'_> {
    pub(super) fn spine(&self) -> usize {
        self.x + SPINE / 2
    }

    fn shift(&mut self, dx: usize, dy: usize) {
        self.x += dx;
        self.y += dy;
        for card in self.rows.iter_mut().flatten() {
            card.x += dx;
            card.y += dy;
        }
    }
}

fn width(detail: Detail) -> usize {
    match detail {
        Detail::Card => 232,
        Detail::Compact => 184,
        Detail::Tile => 148,
    }
}

/// Above the lines of a card.
pub(super) fn head(detail: Detail) -> usize {
    match detail {
        Detail::Card | Detail::Compact => 62,
        Detail::Tile => 44,
    }
}

fn height(spot: &Spot<'_>, detail: Detail) -> usize {
    match spot.lines(detail).len() {
        0 => head(detail) - 4,
        lines => head(detail) + lines * LINE + 6,
    }
}

pub(super) fn place<'a>(scene: &'a Scene<'a>) -> Layout<'a> {
    let parent = MARGIN + TITLE;
    let above = if scene.parent.is_empty() { 0 } else { PARENT_HEIGHT + TIER_GAP };
    let master_top = parent + above;
    let boards = scene.boards.len();
    let row = MASTER_WIDTH + boards * (width(Detail::Card) + TIER_GAP);
    let tallest = scene.boards.iter().map(|board| height(board, Detail::Card)).max();
    let below = master_top + MASTER_HEIGHT.max(tallest.unwrap_or_default());
    let mut frames: Vec<_> = scene.groups.iter().map(|group| grid(group, scene.detail)).collect();
    let (shelves, right, bottom) = shelve(&mut frames, below);
    // the title has its room too
    let inner = row.max(right).max(420);
    if let [shelf] = &shelves[..] {
        let shift = (inner - right) / 2;
        frames.iter_mut().take(shelf.frames.end).for_each(|frame| frame.shift(shift, 0));
    }
    let left = MARGIN + (inner - row) / 2;
    let step = width(Detail::Card) + TIER_GAP;
    let before = boards / 2;
    let master_x = left + before * step;
    let boards = scene.boards.iter().enumerate().map(|(index, spot)| Card {
        spot,
        x: if index < before {
            left + index * step
        } else {
            master_x + MASTER_WIDTH + TIER_GAP + (index - before) * step
        },
        y: master_top,
        width: width(Detail::Card),
        height: height(spot, Detail::Card),
    });
    Layout {
        width: inner + 2 * MARGIN,
        height: bottom + MARGIN,
        parent,
        master: (master_x, master_top),
        boards: boards.collect(),
        frames,
        shelves,
    }
}

/// A group's cards in rows, about as wide as a screen is.
fn grid<'a>(group: &'a Group<'a>, detail: Detail) -> Frame<'a> {
    let step = width(detail) + GAP_X;
    let heights: usize = group.spots.iter().map(|spot| height(spot, detail) + RAIL + GAP_Y).sum();
    let squares = (heights * ASPECT_TENTHS).div_ceil(10 * step);
    let columns = squares.isqrt() + usize::from(squares.isqrt().pow(2) < squares);
    let columns = columns.clamp(1, group.spots.len().max(1));
    let mut y = if group.title.is_some() { GROUP_TITLE } else { 0 };
    let mut rows = Vec::new();
    for spots in group.spots.chunks(columns) {
        y += RAIL;
        let cards: Vec<_> = spots
            .iter()
            .enumerate()
            .map(|(column, spot)| Card {
                spot,
                x: SPINE + PAD / 2 + column * step,
                y,
                width: width(detail),
                height: height(spot, detail),
            })
            .collect();
        y += cards.iter().map(|card| card.height).max().unwrap_or_default() + GAP_Y;
        rows.push(cards);
    }
    Frame { x: 0, y: 0, width: SPINE + PAD / 2 + columns * step - GAP_X + PAD, height: y, rows }
}

/// Puts the groups on shelves below `top`. The shelves, how far they reach to the right of the margin, and down.
fn shelve(frames: &mut [Frame<'_>], top: usize) -> (Vec<Shelf>, usize, usize) {
    let area: usize =
        frames.iter().map(|one| (one.width + GROUP_GAP) * (one.height + GROUP_GAP)).sum();
    let widest = frames.iter().map(|frame| frame.width).max().unwrap_or_default();
    let room = widest.max((area * ASPECT_TENTHS / 10).isqrt());
    let all: usize = frames.iter().map(|frame| frame.width + GROUP_GAP).sum();
    let is_one = all <= room + GROUP_GAP;
    // with several shelves a line runs down their left side
    let left = MARGIN + if is_one { 0 } else { SPINE };
    let (mut shelves, mut right) = (Vec::<Shelf>::new(), 0);
    let (mut x, mut y, mut bottom) = (left, top + GROUP_GAP, top);
    for (index, frame) in frames.iter_mut().enumerate() {
        if x > left && x - left + frame.width > room {
            (x, y) = (left, bottom + GROUP_GAP);
        }
        match shelves.last_mut() {
            Some(shelf) if x > left => shelf.frames.end = index + 1,
            Some(_) | None => {
                shelves.push(Shelf { rail: y - GROUP_GAP / 2, frames: index..index + 1 });
            }
        }
        frame.shift(x, y);
        x += frame.width + GROUP_GAP;
        right = right.max(frame.x + frame.width - MARGIN);
        bottom = bottom.max(y + frame.height);
    }
    (shelves, right, bottom)
}

#[cfg(test)]
mod tests {
    use piccolo_rpc::v1;

    use super::*;
    use crate::topology::scene::Told;

    /// Places nodes at so many sites, each with so many containers.
    #[track_caller]
    fn check(nodes: usize, sites: usize, boards: usize) {
        let node = |index: usize| v1::Node {
            id: index.to_string(),
            labels: [("site".to_owned(), format!("{}", index % sites))].into(),
            containers: vec![v1::ContainerStatus::default(); index % 3],
            ..Default::default()
        };
        let topology = v1::ClusterTopology {
            sub_nodes: (0..nodes).map(node).collect(),
            master_nodes: (0..boards).map(node).collect(),
            parent_cluster: "cloud".to_owned(),
            ..Default::default()
        };
        let status = v1::GetClusterStatusResponse::default();
        let told = Told { topology: &topology, status: &status, alerts: &[] };
        let scene = Scene::of(told, "site");
        let layout = place(&scene);
        let cards: Vec<_> = layout
            .boards
            .iter()
            .chain(layout.frames.iter().flat_map(|frame| frame.rows.iter().flatten()))
            .collect();
        assert_eq!(cards.len(), nodes + boards);
        let master = layout.master;
        let mut boxes: Vec<_> =
            cards.iter().map(|card| (card.x, card.y, card.width, card.height)).collect();
        boxes.push((master.0, master.1, MASTER_WIDTH, MASTER_HEIGHT));
        for (index, a) in boxes.iter().enumerate() {
            assert!(a.0 >= MARGIN && a.0 + a.2 <= layout.width - MARGIN, "{a:?} of {layout:?}");
            assert!(a.1 + a.3 <= layout.height - MARGIN, "{a:?} of {layout:?}");
            for b in &boxes[..index] {
                let apart =
                    a.0 + a.2 <= b.0 || b.0 + b.2 <= a.0 || a.1 + a.3 <= b.1 || b.1 + b.3 <= a.1;
                assert!(apart, "{a:?} lies on {b:?}");
            }
        }
    }

    #[test]
    fn nothing_lies_on_something_else_or_outside() {
        let shapes = [(0, 1, 0), (2, 1, 0), (3, 3, 1), (10, 3, 2), (24, 24, 0), (60, 4, 1)];
        for (nodes, sites, boards) in shapes.into_iter().chain([(200, 6, 0), (200, 50, 3)]) {
            check(nodes, sites, boards);
        }
    }
}
