//! A connection with a deadline for all its operations, however slowly data arrive.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A TCP connection with a deadline.
#[derive(Debug)]
pub(crate) struct Timed {
    stream: TcpStream,
    end: Instant,
}

impl Timed {
    /// Connects to this address.
    pub(crate) fn connect(address: SocketAddr, end: Instant) -> io::Result<Self> {
        let left = left(end).ok_or(io::ErrorKind::TimedOut)?;
        TcpStream::connect_timeout(&address, left).map(|stream| Self { stream, end })
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        left(self.end).map(Some).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

/// The time that is left until the deadline.
pub(crate) fn left(end: Instant) -> Option<Duration> {
    end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

/// Converts the error of a timeout. A blocking socket reports `WouldBlock` for it.
pub(crate) fn timed_out<T>(result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        timed_out(self.stream.read(buffer))
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        timed_out(self.stream.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
