//! Items that could not be read: what stands in their braces is not blamed for it, and their names are known.

use super::ast;
use super::lexer::Lexed;
use super::token::Token;
use crate::diagnostic::{Diagnostic, nearest};

const fn begins_item(token: Token<'_>) -> bool {
    matches!(token, Token::Pipe | Token::Pipeline | Token::Layout | Token::Frame | Token::Test | Token::Use)
}

/// Takes out the errors, and the items, that are made of the rest of an item with a mistake in its head.
///
/// After such a mistake the grammar looks for the next item, and may take a table or documentation in the
/// body for one.
pub(super) fn leave_out_what_follows(
    tokens: &[Lexed<'_>],
    tree: &mut ast::File,
    errors: &mut Vec<Diagnostic>,
) {
    let place = |error: &Diagnostic| error.labels.first().map_or(u32::MAX, |label| label.span.start);
    let mut lost_until = 0;
    errors.retain(|error| {
        let at = place(error);
        // Inclusive: an item of a few bytes may end where its mistake is.
        let inside = tree.items.iter().any(|item| item.span.start <= at && at < item.span.end);
        if at != u32::MAX && at < lost_until {
            return false;
        }
        if !inside && at != u32::MAX {
            let end = end_of_item(tokens, at);
            tree.items.retain(|item| item.span.start <= at || item.span.start >= end);
            lost_until = lost_until.max(end);
        }
        true
    });
}

/// Where the item ends that has a mistake in its head at `at`: after its closing brace, or before the next
/// item.
fn end_of_item(tokens: &[Lexed<'_>], at: u32) -> u32 {
    let first = tokens.partition_point(|(start, _, _)| *start < at);
    let is_name = first > 0 && begins_item(tokens[first - 1].1);
    let mut depth = 0usize;
    for (index, (start, token, end)) in tokens.iter().enumerate().skip(first) {
        match token {
            token if depth == 0 && begins_item(*token) && !(index == first && is_name) => return *start,
            Token::BraceOpen => depth += 1,
            Token::BraceClose if depth <= 1 => return *end,
            Token::BraceClose => depth -= 1,
            _ => {}
        }
    }
    tokens.last().map_or(at, |(_, _, end)| *end)
}

/// The names of items that stand in the text but not in the tree.
pub(super) fn names<'s>(tokens: &[Lexed<'s>], tree: &ast::File) -> Vec<&'s str> {
    let name = |pair: &[Lexed<'s>]| match (pair[0].1, pair[1].1) {
        (Token::Pipe | Token::Pipeline | Token::Layout | Token::Frame, Token::Ident(name)) => {
            Some((pair[0].0, name))
        }
        // `pipline name`
        (Token::Ident(word), Token::Ident(name)) => {
            nearest(word, ["pipe", "pipeline", "layout", "frame"]).map(|_| (pair[0].0, name))
        }
        _ => None,
    };
    // Both in the order of the text.
    let mut items = tree.items.iter().peekable();
    let mut is_lost = |at: u32| {
        while items.next_if(|item| item.span.end <= at).is_some() {}
        items.peek().is_none_or(|item| at < item.span.start)
    };
    tokens.windows(2).filter_map(name).filter(|(at, _)| is_lost(*at)).map(|(_, name)| name).collect()
}
