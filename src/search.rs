//! What a search looks for.

use sea_orm::{
    ColumnTrait, Condition,
    sea_query::{Expr, extension::postgres::PgExpr as _},
};

/// The rows that have all of these words, each in any of these columns, whatever the case.
pub(crate) fn all_words(words: &[String], columns: &[impl ColumnTrait]) -> Condition {
    words.iter().fold(Condition::all(), |all, word| {
        let pattern = contains(word);
        let any = columns
            .iter()
            .fold(Condition::any(), |any, column| any.add(Expr::col(column.as_column_ref()).ilike(&pattern)));
        all.add(any)
    })
}

/// The pattern of a text that has this word in it. What would be a wildcard stands for itself, by PostgreSQL's default
/// escape: sea-query puts the operand of `ILIKE … ESCAPE` in parentheses, which is no SQL.
fn contains(word: &str) -> String {
    let mut pattern = String::with_capacity(word.len() + 2);
    pattern.push('%');
    for character in word.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_in_a_search_are_literal() {
        assert_eq!(contains(r"50%_a\b"), r"%50\%\_a\\b%");
    }
}
