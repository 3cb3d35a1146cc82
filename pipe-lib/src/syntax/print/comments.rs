//! Comments and blank lines, kept about where they stood.

use super::Printer;
use std::fmt::Write as _;

impl Printer<'_> {
    /// Prints the comments that start before `offset`, each on its line; says whether there were any.
    pub(super) fn leading(&mut self, offset: u32, first_in_block: bool) -> bool {
        let mut first = first_in_block;
        let mut any = false;
        while let Some((comment, rest)) = self.comments.split_first() {
            if comment.start >= offset {
                break;
            }
            self.comments = rest;
            if !first && self.blank_before(comment.start) && !self.out.ends_with("{\n") {
                self.blank();
            }
            self.line(&comment.text);
            first = false;
            any = true;
        }
        any
    }

    /// Prints the comments inside of a statement before it.
    pub(super) fn hoist(&mut self, end: u32) {
        while let Some((comment, rest)) = self.comments.split_first() {
            if comment.start >= end {
                break;
            }
            self.comments = rest;
            self.line(&comment.text);
        }
    }

    /// Puts the comment that follows `end` on the same line behind what was printed last.
    pub(super) fn trailing(&mut self, end: u32) {
        let Some((comment, rest)) = self.comments.split_first() else { return };
        let between = self.text.get(end as usize..comment.start as usize);
        if comment.own_line || between.is_none_or(|between| between.contains('\n')) {
            return;
        }
        self.comments = rest;
        self.out.pop();
        let _ = writeln!(self.out, " {}", comment.text);
    }

    /// The same for a clause whose end is not known: a comment on its line before the next clause.
    pub(super) fn trailing_before(&mut self, next: u32) {
        let Some((comment, rest)) = self.comments.split_first() else { return };
        if comment.own_line || comment.start >= next {
            return;
        }
        self.comments = rest;
        self.out.pop();
        let _ = writeln!(self.out, " {}", comment.text);
    }

    pub(super) fn has_comment_before(&self, offset: u32) -> bool {
        self.comments.first().is_some_and(|comment| comment.start < offset)
    }

    /// Whether the source has a blank line right before `offset`.
    pub(super) fn blank_before(&self, offset: u32) -> bool {
        let Some(before) = self.text.get(..offset as usize) else { return false };
        let gap = &before[before.trim_end().len()..];
        gap.matches('\n').count() > 1
    }
}
