//! A password from standard input: never from an argument, which other users of the machine can see.

use std::io::{self, BufRead, IsTerminal};

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

/// More than anybody types; the limits of passwords themselves are checked elsewhere.
const MAX_BYTES: u64 = 4096;

/// Asks for a new password, twice and without showing it, where a person sits; otherwise reads the first line.
///
/// # Errors
/// If there is none, the two differ, or it is not UTF-8.
pub fn read_new() -> io::Result<SecretString> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return first_line(stdin.lock());
    }
    let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
    let again = Zeroizing::new(rpassword::prompt_password("Again: ")?);
    if first != again {
        return Err(invalid("the two passwords differ"));
    }
    accept(&first)
}

fn first_line(input: impl BufRead) -> io::Result<SecretString> {
    let mut line = Zeroizing::new(String::new());
    input.take(MAX_BYTES + 1).read_line(&mut line)?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    accept(password.strip_suffix('\r').unwrap_or(password))
}

fn accept(password: &str) -> io::Result<SecretString> {
    if password.is_empty() {
        return Err(invalid("no password on standard input"));
    }
    if password.len() as u64 > MAX_BYTES {
        return Err(invalid("the password is too long"));
    }
    Ok(password.into())
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_first_line_is_the_password_blanks_and_all() {
        for (input, password) in [("a b \nrest", "a b "), ("secret\r\n", "secret"), ("secret", "secret")] {
            assert_eq!(first_line(input.as_bytes()).unwrap().expose_secret(), password);
        }
    }

    #[test]
    fn nothing_too_much_and_no_text_are_refused() {
        let too_long = "x".repeat(5000);
        for input in [&b""[..], b"\n", b"\xff\n", too_long.as_bytes()] {
            assert!(first_line(input).is_err());
        }
    }
}
