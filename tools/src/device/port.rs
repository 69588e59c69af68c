//! What a board is reached through: a serial device, or a TCP socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result};
use serialport::SerialPort;

/// How long a socket may take until it is connected, and until it takes what is sent.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes to and from a board.
pub trait Port: Read + Write {
    /// How long a read may wait for its first byte.
    ///
    /// # Errors
    ///
    /// If the port does not take it.
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()>;
}

impl Port for TcpStream {
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }
}

impl Port for Box<dyn SerialPort> {
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        Ok(self.as_mut().set_timeout(timeout)?)
    }
}

/// Opens `tcp:HOST:PORT`, or a serial device (a pseudo-terminal is one) with this many bits a second.
///
/// # Errors
///
/// If there is no such port, or it is in use.
pub fn open(name: &str, baud: u32) -> Result<Box<dyn Port>> {
    if let Some(address) = name.strip_prefix("tcp:") {
        let stream = connect(address).with_context(|| {
            format!("cannot connect to {address}: start what listens there, or name another place as tcp:HOST:PORT")
        })?;
        return Ok(Box::new(stream));
    }
    let port = serialport::new(name, baud).open().with_context(|| {
        let found = serialport::available_ports().unwrap_or_default();
        let names: Vec<_> = found.into_iter().map(|port| port.port_name).collect();
        let there =
            if names.is_empty() { "no serial port is there".into() } else { format!("there are {}", names.join(", ")) };
        format!("cannot open the serial port {name} ({there}; a socket is tcp:HOST:PORT)")
    })?;
    Ok(Box::new(port))
}

/// Connects to the first of a name's addresses that answers.
fn connect(address: &str) -> io::Result<TcpStream> {
    let mut result = Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
    for address in address.to_socket_addrs()? {
        result = TcpStream::connect_timeout(&address, SOCKET_TIMEOUT);
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    stream.set_write_timeout(Some(SOCKET_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
