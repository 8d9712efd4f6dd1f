//! The epsilon-net of any number of objectives, without a look at each member for each that is taken.
//!
//! A new member of the net is nearest to the members around it alone, and the longer the net the fewer these are. A
//! k-d tree (Bentley 1975) keeps the members by where they lie: each part knows its box and which of its members lies the
//! farthest from the net, so that a part whose box is farther from the new one than that is passed over.
//!
//! It finds the same members in the same order as [`super::net`], bit for bit: what is passed over would not have
//! changed. Rounding is monotonous, so that no member of a box is computed to be nearer than its box is.

/// Members of a part that is not split further.
const LEAF: usize = 8;

/// Points, one after the other, with so many coordinates each.
pub(super) struct Points {
    pub(super) width: usize,
    pub(super) places: Vec<f64>,
}

impl Points {
    fn at(&self, member: usize) -> &[f64] {
        &self.places[member * self.width..(member + 1) * self.width]
    }
}

/// Some of the members, those at `begin..end` of the order.
struct Part {
    begin: usize,
    end: usize,
    /// Both halves' places among the parts; a leaf has none.
    halves: Option<(usize, usize)>,
    /// The member that lies the farthest from what was taken, and the square of how far; `None`: all were taken.
    farthest: Option<(f64, usize)>,
}

/// The members of a front and how far each lies from the net so far.
pub(super) struct Tree {
    points: Points,
    /// Members, those of a part side by side; and where each is.
    order: Vec<usize>,
    places: Vec<usize>,
    parts: Vec<Part>,
    /// The least and the greatest coordinates of each part.
    boxes: Vec<(f64, f64)>,
    /// By member: the squared distance to the nearest that was taken; of one that was taken itself minus infinity.
    nearest: Vec<f64>,
}

impl Tree {
    pub(super) fn new(points: Points) -> Self {
        let members = points.places.len() / points.width.max(1);
        let mut tree = Self {
            order: (0..members).collect(),
            places: vec![0; members],
            parts: Vec::with_capacity(4 * members / LEAF + 1),
            boxes: Vec::new(),
            nearest: vec![f64::INFINITY; members],
            points,
        };
        if members > 0 {
            tree.split(0, members);
        }
        for (place, member) in tree.order.iter().enumerate() {
            tree.places[*member] = place;
        }
        tree
    }

    /// Makes the part of these members, and its halves; where it is among the parts.
    fn split(&mut self, begin: usize, end: usize) -> usize {
        let width = self.points.width;
        let (part, sides) = (self.parts.len(), self.boxes.len());
        self.parts.push(Part {
            begin,
            end,
            halves: None,
            farthest: None,
        });
        self.boxes
            .resize(sides + width, (f64::INFINITY, f64::NEG_INFINITY));
        for member in &self.order[begin..end] {
            let sides = self.boxes[sides..].iter_mut();
            for ((least, most), place) in sides.zip(self.points.at(*member)) {
                (*least, *most) = (least.min(*place), most.max(*place));
            }
        }
        if end - begin > LEAF {
            let breadth = |side: &usize| self.boxes[sides + side].1 - self.boxes[sides + side].0;
            let widest = (0..width).max_by(|a, b| breadth(a).total_cmp(&breadth(b)));
            let (points, axis) = (&self.points, widest.unwrap_or(0));
            let half = (end - begin) / 2;
            self.order[begin..end].select_nth_unstable_by(half, |a, b| {
                let (a_place, b_place) = (points.at(*a)[axis], points.at(*b)[axis]);
                a_place.total_cmp(&b_place).then(a.cmp(b))
            });
            let middle = begin + half;
            let halves = (self.split(begin, middle), self.split(middle, end));
            self.parts[part].halves = Some(halves);
        }
        self.parts[part].farthest = self.farthest_of(part);
        part
    }

    /// Takes a member into the net.
    pub(super) fn take(&mut self, member: usize) {
        self.nearest[member] = f64::NEG_INFINITY;
        self.approach(0, member);
    }

    /// Who lies the farthest from the net, of equals the lowest.
    pub(super) fn farthest(&self) -> Option<usize> {
        let (_, member) = self.parts.first()?.farthest?;
        Some(member)
    }

    fn approach(&mut self, at: usize, taken: usize) {
        let Some(part) = self.parts.get(at) else {
            return;
        };
        let (begin, end, halves) = (part.begin, part.end, part.halves);
        let holds = (begin..end).contains(&self.places[taken]);
        let changes = |(most, _): (f64, usize)| self.outside(at, taken) < most;
        if !holds && !part.farthest.is_some_and(changes) {
            return;
        }
        match halves {
            Some((low, high)) => {
                self.approach(low, taken);
                self.approach(high, taken);
            }
            None => {
                for member in &self.order[begin..end] {
                    let square = super::square(self.points.at(*member), self.points.at(taken));
                    self.nearest[*member] = self.nearest[*member].min(square);
                }
            }
        }
        self.parts[at].farthest = self.farthest_of(at);
    }

    /// The square of how far a member lies from a part's box.
    fn outside(&self, part: usize, member: usize) -> f64 {
        let width = self.points.width;
        let sides = &self.boxes[part * width..(part + 1) * width];
        let gaps = sides
            .iter()
            .zip(self.points.at(member))
            .map(|(side, place)| {
                let gap = f64::max(side.0 - place, place - side.1).max(0.0);
                gap * gap
            });
        gaps.sum()
    }

    fn farthest_of(&self, part: usize) -> Option<(f64, usize)> {
        let part = &self.parts[part];
        let first = |a: (f64, usize), b: (f64, usize)| {
            let behind = b.0 > a.0 || (b.0 == a.0 && b.1 < a.1);
            if behind { b } else { a }
        };
        match part.halves {
            Some((low, high)) => {
                let both = [low, high].map(|half| self.parts[half].farthest);
                both.into_iter().flatten().reduce(first)
            }
            None => {
                let members = self.order[part.begin..part.end].iter();
                let known = members.map(|member| (self.nearest[*member], *member));
                let left = known.filter(|(nearest, _)| *nearest != f64::NEG_INFINITY);
                left.reduce(first)
            }
        }
    }
}
