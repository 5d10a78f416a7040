//! What commands print: for people, or with `--json` for programs. The only place that writes to standard output.

use std::error::Error;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::printable::{Printable, wants_colors};
use crate::telemetry::Chain;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It could not, or a check found something.
    Failed = 1,
    /// What was asked makes no sense; clap answers so too.
    Usage = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints answers in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    colors: bool,
}

impl Output {
    /// Colours only where a person looks on and has not declined.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json, colors: !json && wants_colors(&io::stdout()) }
    }

    /// Whether the answer is for a program.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints one answer: `answer` as JSON, or what `for_people` makes of it.
    ///
    /// # Errors
    /// If standard output cannot be written to; that nobody reads it any more is no error.
    pub fn answer<T, P>(self, answer: &T, for_people: impl FnOnce(&T) -> P) -> io::Result<()>
    where
        T: Serialize + ?Sized,
        P: Display,
    {
        let text =
            if self.json { serde_json::to_string_pretty(answer)? } else { for_people(answer).to_string() };
        write_line(&mut io::stdout().lock(), &text)
    }

    /// Prints a text that is the same for people and programs.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn text(self, text: &str) -> io::Result<()> {
        write_line(&mut io::stdout().lock(), text)
    }

    /// Prints a list: `rows` as a JSON array, or `table`.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn list<T: Serialize>(self, rows: &[T], table: impl FnOnce(&[T]) -> Table) -> io::Result<()> {
        self.answer(rows, |rows| table(rows).render(self.colors))
    }

    /// Tells a person on standard error what a command does meanwhile.
    pub fn note(self, text: &str) {
        if !self.json {
            // Whoever closed it does not want to know.
            let _ = write_line(&mut io::stderr().lock(), text);
        }
    }

    /// Says on standard error why a command failed.
    /// Where nobody may be there to take it, it is not waited for long.
    pub fn failure(self, error: &(dyn Error + 'static), is_unattended: bool) {
        let line = if self.json {
            serde_json::json!({ "error": Chain(error).to_string() }).to_string()
        } else {
            let (red, plain) = if wants_colors(&io::stderr()) { (RED, PLAIN) } else { ("", "") };
            format!("{red}error:{plain} {}", Chain(error))
        };
        let (sender, written) = mpsc::channel::<()>();
        let write = move || {
            // If standard error is closed too, the exit code is all that is left.
            let _ = write_line(&mut io::stderr(), &line);
            drop(sender);
        };
        if !is_unattended {
            write();
        } else if thread::Builder::new().spawn(write).is_ok() {
            written.recv_timeout(LAST_LINE).ok();
        }
    }
}

/// How long a line may take whose reader may stand still.
const LAST_LINE: Duration = Duration::from_secs(1);
const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[1;31m";
const PLAIN: &str = "\u{1b}[0m";

/// Writes text and a line break. A reader that has seen enough (`| head`) is no failure.
fn write_line(writer: &mut impl Write, text: &str) -> io::Result<()> {
    match writeln!(writer, "{text}").and_then(|()| writer.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Rows under headings, in aligned columns.
#[derive(Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// A table that says `empty` while it has no rows.
    #[must_use]
    pub fn new(headings: &[&'static str], empty: &'static str) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new(), empty }
    }

    /// Adds a row, a cell per heading. Control characters in them are spelled out.
    #[must_use]
    pub fn row(mut self, cells: impl IntoIterator<Item = impl Display>) -> Self {
        self.rows.push(cells.into_iter().map(|cell| Printable(cell).to_string()).collect());
        self
    }

    fn render(&self, colors: bool) -> String {
        if self.rows.is_empty() {
            return self.empty.to_owned();
        }
        let widths: Vec<usize> = self
            .headings
            .iter()
            .enumerate()
            .map(|(column, heading)| {
                let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width());
                cells.max().unwrap_or(0).max(heading.width())
            })
            .collect();
        let (bold, plain) = if colors { (BOLD, PLAIN) } else { ("", "") };
        let mut lines = vec![format!("{bold}{}{plain}", Line(&self.headings, &widths))];
        lines.extend(self.rows.iter().map(|row| Line(row, &widths).to_string()));
        lines.join("\n")
    }
}

struct Line<'a, T>(&'a [T], &'a [usize]);

impl<T: AsRef<str>> Display for Line<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut owed = 0;
        for (cell, width) in self.0.iter().map(AsRef::as_ref).zip(self.1) {
            // No blanks at the end of a line.
            write!(f, "{:owed$}{cell}", "")?;
            owed = width.saturating_sub(cell.width()) + 2;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_in_any_script() {
        let table = Table::new(&["SLUG", "NAME", "USERS"], "No tenants.")
            .row(["acme", "Acme Ltd", "12"])
            .row(["kabushiki", "株式会社", "7"])
            .row(["evil", "a\u{1b}[2J\nb", ""]);
        insta::assert_snapshot!(table.render(false), @r"
        SLUG       NAME           USERS
        acme       Acme Ltd       12
        kabushiki  株式会社       7
        evil       a\u{1b}[2J\nb
        ");
        assert!(table.render(true).starts_with(BOLD));
        assert!(!table.render(false).contains('\u{1b}'));
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["SLUG"], "No tenants.").render(true), "No tenants.");
    }

    struct Closed(io::ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        assert!(write_line(&mut Closed(io::ErrorKind::BrokenPipe), "text").is_ok());
        assert!(write_line(&mut Closed(io::ErrorKind::StorageFull), "text").is_err());
    }

    #[test]
    fn exit_codes_are_those_of_the_shell() {
        assert_eq!([Exit::Ok, Exit::Failed, Exit::Usage].map(|exit| exit as u8), [0, 1, 2]);
    }
}
