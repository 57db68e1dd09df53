//! A connection that as a whole ends at a point in time, however slowly its bytes come.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A TCP connection with such an end.
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

/// What is left until then.
pub(crate) fn left(end: Instant) -> Option<Duration> {
    end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

/// A blocking socket reports the end of its own timeout as if it were not blocking.
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
