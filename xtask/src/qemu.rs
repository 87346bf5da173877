//! One virtual machine: QEMU's command line, its two serial lines, its end.
//!
//! The console's line (ttyS0, or hvc0: [`ConsoleLine`]) carries the console and, from `/init`, lines that begin with a nonce; ttyS1 carries the command's
//! bytes, unchanged in both directions. Both are sockets that this process serves, so QEMU never waits for us.

use crate::cpio::Archive;
use crate::deps;
use crate::disk::Disk;
use crate::util::{say, target_sub};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::collections::VecDeque;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// QEMU's value of `isa-debug-exit` is doubled and one is added; Linnet writes 50 when it panics.
const PANIC_EXIT: i32 = 101;
/// How long a guest may take to power off after it told the status.
const POWER_OFF_GRACE: Duration = Duration::from_secs(10);

/// The kind of virtual hardware.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Machine {
    /// A PC with PCI Express.
    Q35,
    /// QEMU's minimal machine.
    Microvm,
    /// The same without ACPI: its devices are told on the kernel's command line, as Firecracker does.
    MicrovmNoAcpi,
}

/// What the console is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ConsoleLine {
    /// The first serial port.
    #[value(name = "ttyS0")]
    Serial,
    /// virtio-console; there is no first serial port then.
    #[value(name = "hvc0")]
    Virtio,
}

/// A port to the guest (virtio-console): `NAME=SOCKET`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// What the guest knows it by.
    pub name: String,
    /// Where QEMU listens for whoever is to be at its other end.
    pub socket: PathBuf,
}

impl std::str::FromStr for Port {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Port> {
        let (name, socket) = text.split_once('=').with_context(|| format!("{text} is not NAME=SOCKET"))?;
        Ok(Port { name: name.to_owned(), socket: socket.into() })
    }
}

/// A machine to be started.
#[derive(Clone)]
pub struct Vm {
    /// The kernel file: an ELF with a PVH note, or a bzImage.
    pub kernel: PathBuf,
    /// With symbols, for the hint that `--debug` prints.
    pub symbols: Option<PathBuf>,
    /// The root image.
    pub initrd: Vec<u8>,
    /// The kernel's command line, complete.
    pub command_line: String,
    /// The virtual hardware.
    pub machine: Machine,
    /// The model of the virtual CPUs, as QEMU's `-cpu` takes it.
    pub cpu_model: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory_mib: u32,
    /// Give up after this long.
    pub timeout: Option<Duration>,
    /// Wait for gdb before the first instruction.
    pub wait_for_debugger: bool,
    /// Copy the console to stderr as it comes.
    pub verbose: bool,
    /// The disks, in the order in which the guest finds them.
    pub disks: Vec<Disk>,
    /// The root is on the first disk; the archive only mounts it.
    pub root_on_disk: bool,
    /// A folder of the host that the guest finds by the tag `share`.
    pub share: Option<PathBuf>,
    /// What the console is.
    pub console: ConsoleLine,
    /// The ports of virtio-console, in the order of their numbers, from 1.
    pub ports: Vec<Port>,
    /// Where QEMU listens for commands about the machine itself (QMP), if anywhere.
    pub control: Option<PathBuf>,
}

/// Where a guest command's input comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// `/dev/null`.
    Null,
    /// Our terminal; the command sees a terminal, too.
    Terminal,
    /// Our standard input, a pipe or file; the command sees a pipe that ends.
    Stream,
}

impl Input {
    /// What our own standard input is.
    pub fn of_this_process() -> Input {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Input::Terminal;
        }
        let is_null = std::fs::read_link("/proc/self/fd/0").is_ok_and(|path| path == Path::new("/dev/null"));
        if is_null || !Path::new("/proc/self/fd/0").exists() { Input::Null } else { Input::Stream }
    }
}

/// How a guest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The command ended with this status and the machine powered off.
    Exited(u8),
    /// The kernel panicked.
    Panicked,
    /// The time was over.
    TimedOut,
    /// QEMU ended and nobody said why.
    Vanished,
}

/// What came out of a guest.
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Everything the console said.
    pub console: Vec<u8>,
}

enum Event {
    Console(Vec<u8>),
    Output(Vec<u8>),
    /// Some of our standard input; nothing means its end.
    Input(Vec<u8>),
}

impl Vm {
    /// Boots to a shell on this terminal; ends when the guest powers off or the user types Ctrl-A x.
    pub fn run_on_terminal(&self) -> Result<u8> {
        let files = Files::new(&self.initrd)?;
        let mut vm = self.clone();
        if let Some((rows, columns)) = window_size() {
            // A serial line cannot tell; the kernel hands parameters it does not know to init's environment.
            vm.command_line.push_str(&format!(" ROWS={rows} COLS={columns}"));
        }
        let mut qemu = vm.qemu(&files)?;
        if std::io::stdin().is_terminal() {
            say("the terminal is the guest's now; Ctrl-A x ends it");
        }
        qemu.args(["-chardev", "stdio,id=line0,mux=on,signal=off", "-mon", "line0"]);
        self.attach_console(&mut qemu);
        let mut child = qemu.spawn().context("starting QEMU")?;
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(u8::try_from(status.code().unwrap_or(125)).unwrap_or(125));
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                child.kill()?;
                child.wait()?;
                say("timeout: the machine was stopped");
                return Ok(124);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Boots, runs `words` as root, and returns what came of it. Each file is (path in the guest, permissions,
    /// contents). The output goes to `sink` as it comes; an error of its own ends the machine at once, as a power cut would.
    pub fn run_command(
        &self,
        words: &[String],
        files: &[(String, u32, Vec<u8>)],
        input: Input,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Outcome> {
        let nonce = nonce();
        let mut initrd = self.initrd.clone();
        initrd.extend(instructions(self.root_on_disk, words, files, input, &nonce));
        self.serve(&initrd, nonce, input, sink)
    }

    /// Boots the initramfs as it is, damaged or not, with nothing added, and returns what came of it.
    pub fn run_bare(&self) -> Result<Outcome> {
        self.serve(&self.initrd, nonce(), Input::Null, &mut |_| Ok(()))
    }

    /// Starts QEMU with this archive and serves its lines to the end.
    fn serve(
        &self,
        initrd: &[u8],
        nonce: String,
        input: Input,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Outcome> {
        let scratch = Files::new(initrd)?;
        let mut qemu = self.qemu(&scratch)?;
        let (events, inbox) = channel();
        let listeners = [scratch.listen("line0")?, scratch.listen("line1")?];
        for (index, _) in listeners.iter().enumerate() {
            let path = scratch.path(&format!("line{index}"));
            qemu.arg("-chardev").arg(format!("socket,id=line{index},path={}", path.display()));
        }
        self.attach_console(&mut qemu);
        match self.machine {
            Machine::Q35 => qemu.args(["-serial", "chardev:line1"]),
            // This machine makes one serial port of its own accord and ignores the second `-serial`.
            Machine::Microvm | Machine::MicrovmNoAcpi => {
                qemu.args(["-device", "isa-serial,index=1,chardev=line1"])
            }
        };
        qemu.stdin(Stdio::null());
        let mut child = qemu.spawn().context("starting QEMU")?;
        let [console, command] = &listeners;
        let Some(console) = accept(console, &mut child)? else { bail!("QEMU did not start") };
        let Some(command) = accept(command, &mut child)? else { bail!("QEMU did not start") };
        forward(console, events.clone(), Event::Console);
        forward(command.try_clone()?, events.clone(), Event::Output);
        let _raw = (input == Input::Terminal).then(RawTerminal::enter);
        if input != Input::Null {
            forward_stdin(events);
        }
        let mut session = Session {
            child,
            inbox,
            command,
            nonce,
            verbose: self.verbose,
            input,
            waiting_input: VecDeque::new(),
            may_send: false,
            told: None,
            outcome: Outcome { end: End::Vanished, console: Vec::new() },
            searched: 0,
        };
        if let Err(error) = session.serve(self.timeout, sink) {
            // Whoever takes the output has had enough: the machine ends in the middle of what it does.
            let _ = session.child.kill();
            let _ = session.child.wait();
            return Err(error);
        }
        Ok(session.outcome)
    }

    /// Boots to a shell whose terminal is in the caller's hands.
    pub fn start_with_console(&self) -> Result<Console> {
        let scratch = Files::new(&self.initrd)?;
        let mut qemu = self.qemu(&scratch)?;
        let listener = scratch.listen("line0")?;
        qemu.arg("-chardev").arg(format!("socket,id=line0,path={}", scratch.path("line0").display()));
        self.attach_console(&mut qemu);
        qemu.stdin(Stdio::null());
        let mut child = qemu.spawn().context("starting QEMU")?;
        let Some(line) = accept(&listener, &mut child)? else { bail!("QEMU did not start") };
        Ok(Console { child, line, verbose: self.verbose, _scratch: scratch })
    }

    /// QEMU with everything but the serial lines.
    fn qemu(&self, files: &Files) -> Result<Command> {
        deps::need(&deps::QEMU)?;
        let mut qemu = Command::new(deps::QEMU.program);
        let machine = match self.machine {
            Machine::Q35 => "q35",
            Machine::Microvm => "microvm",
            Machine::MicrovmNoAcpi => "microvm,acpi=off",
        };
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-machine", machine, "-accel", "tcg,thread=multi", "-cpu", &self.cpu_model])
            .args(["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory_mib)])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(files.path("initrd"))
            .args(["-append", &self.complete_command_line()]);
        self.ports(&mut qemu);
        if self.machine != Machine::Q35 {
            // What every other maker of this bus gives; QEMU's own choice is the draft before virtio 1.0.
            qemu.args(["-global", "virtio-mmio.force-legacy=false"]);
        }
        Disk::attach(&self.disks, self.machine, &mut qemu)?;
        self.attach_share(&mut qemu);
        self.attach_ports(&mut qemu);
        if let Some(path) = &self.control {
            qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", path.display()));
        }
        if self.wait_for_debugger {
            qemu.args(["-s", "-S"]);
            let symbols = self.symbols.as_ref().unwrap_or(&self.kernel);
            say(format_args!("waiting for: gdb {} -ex 'target remote :1234'", symbols.display()));
        }
        Ok(qemu)
    }
}

impl Vm {
    /// The kernel's command line with what the disks add: `/init` is told that there are some by `DISKS` in its environment (Debian's
    /// kernel has their drivers as modules), by `SHARE` that there is a folder to be mounted, and where the root is.
    fn complete_command_line(&self) -> String {
        let console = if self.console == ConsoleLine::Virtio { "hvc0" } else { "ttyS0" };
        let mut line = format!("console={console} {}", self.command_line);
        if !self.disks.is_empty() {
            line.push_str(" DISKS=1");
        }
        if self.share.is_some() {
            line.push_str(" SHARE=share");
        }
        if self.has_virtio_console() {
            line.push_str(" PORTS=1");
        }
        if self.root_on_disk && !line.contains(" root=") {
            line.push_str(" root=/dev/vda");
        }
        line
    }

    /// The folder that is shared. Files there belong to whoever runs QEMU, as if made by hand (`none`: owners that it cannot set are let be); the other
    /// models hide what the guest means in attributes that only QEMU understands.
    fn attach_share(&self, qemu: &mut Command) {
        let Some(folder) = &self.share else { return };
        let path = folder.display().to_string().replace(',', ",,");
        let device = if self.machine == Machine::Q35 { "virtio-9p-pci" } else { "virtio-9p-device" };
        qemu.arg("-fsdev")
            .arg(format!("local,id=share,path={path},security_model=none,multidevs=remap"))
            .arg("-device")
            .arg(format!("{device},fsdev=share,mount_tag=share"));
    }

    fn has_virtio_console(&self) -> bool {
        self.console == ConsoleLine::Virtio || !self.ports.is_empty()
    }

    /// The device that has the console, if that is not serial, and the ports.
    fn attach_ports(&self, qemu: &mut Command) {
        if !self.has_virtio_console() {
            return;
        }
        let device = if self.machine == Machine::Q35 { "virtio-serial-pci" } else { "virtio-serial-device" };
        qemu.arg("-device").arg(format!("{device},id=ports"));
        for (index, port) in self.ports.iter().enumerate() {
            let path = port.socket.display().to_string().replace(',', ",,");
            let (name, number) = (port.name.replace(',', ",,"), index + 1);
            qemu.arg("-chardev")
                .arg(format!("socket,id=port-line{number},path={path},server=on,wait=off"))
                .arg("-device")
                .arg(format!("virtserialport,bus=ports.0,nr={number},id=vport{number},chardev=port-line{number},name={name}"));
        }
    }

    /// The console's line.
    fn attach_console(&self, qemu: &mut Command) {
        match self.console {
            ConsoleLine::Serial => qemu.args(["-serial", "chardev:line0"]),
            ConsoleLine::Virtio => {
                qemu.args(["-serial", "none", "-device", "virtconsole,bus=ports.0,nr=0,chardev=line0"])
            }
        };
    }

    /// The ports of PCI Express in which disks are plugged, one each, and, if the machine can be told to change, an empty one. The ports themselves
    /// tell of what comes and goes: what QEMU's ACPI tables do about that is for who can interpret them.
    fn ports(&self, qemu: &mut Command) {
        if self.machine != Machine::Q35 {
            return;
        }
        qemu.args(["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]);
        let spare = self.control.is_some().then_some(self.disks.len());
        for index in (0..self.disks.len()).chain(spare) {
            qemu.arg("-device").arg(format!("pcie-root-port,id=port{index},chassis={}", index + 1));
        }
    }
}

/// A running machine and its first serial line; the machine is stopped when this is dropped.
pub struct Console {
    child: Child,
    line: UnixStream,
    verbose: bool,
    _scratch: Files,
}

impl Console {
    /// Sends bytes as if they were typed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.line.write_all(bytes).context("typing into the guest")
    }

    /// Waits at most `limit` for bytes and appends them to `to`. Returns whether the machine still runs.
    pub fn receive(&mut self, to: &mut Vec<u8>, limit: Duration) -> Result<bool> {
        let mut buffer = [0; 4096];
        self.line.set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        match self.line.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                if self.verbose {
                    std::io::stderr().write_all(&buffer[..count])?;
                }
                to.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The second archive: what `/init` shall do, and the files for it: below `/on-disk` if they are to be copied to a root on disk.
fn instructions(
    on_disk: bool,
    words: &[String],
    files: &[(String, u32, Vec<u8>)],
    input: Input,
    nonce: &str,
) -> Vec<u8> {
    let input = match input {
        Input::Null => "null",
        Input::Terminal => "terminal",
        Input::Stream => "stream",
    };
    let mut script = format!("NONCE={nonce}\nINPUT={input}\nset --");
    for word in words {
        script.push_str(&format!(" '{}'", word.replace('\'', r"'\''")));
    }
    script.push('\n');
    let mut archive = Archive::new();
    archive.file("linnet-run", 0o644, script.as_bytes());
    if on_disk {
        archive.directory("on-disk", 0o755);
    }
    let mut made = std::collections::BTreeSet::new();
    for (name, permissions, contents) in files {
        let name = format!("{}{}", if on_disk { "on-disk/" } else { "" }, name.trim_start_matches('/'));
        for (end, _) in name.match_indices('/') {
            if made.insert(name[..end].to_owned()) && !BASE_FOLDERS.contains(&&name[..end]) {
                archive.directory(&name[..end], 0o755);
            }
        }
        archive.file(&name, *permissions, contents);
    }
    archive.finish()
}

/// Folders of the root image whose permissions a file below them must not change.
const BASE_FOLDERS: [&str; 8] = ["bin", "sbin", "usr", "usr/bin", "etc", "root", "tmp", "var"];

/// The state of one run with a command.
struct Session {
    child: Child,
    inbox: Receiver<Event>,
    command: UnixStream,
    nonce: String,
    verbose: bool,
    input: Input,
    waiting_input: VecDeque<Vec<u8>>,
    may_send: bool,
    told: Option<(u8, Instant)>,
    outcome: Outcome,
    searched: usize,
}

impl Session {
    /// Handles events until the machine is gone.
    fn serve(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            match self.inbox.recv_timeout(Duration::from_millis(10)) {
                Ok(event) => self.handle(event, sink)?,
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {
                    if let Some(status) = self.child.try_wait()? {
                        self.drain(sink)?;
                        self.outcome.end = self.judge(status.code());
                        return Ok(());
                    }
                }
            }
            let now = Instant::now();
            let overdue = self.told.is_some_and(|(_, when)| now > when + POWER_OFF_GRACE);
            let late = self.told.is_none() && deadline.is_some_and(|deadline| now > deadline);
            if overdue || late {
                self.child.kill()?;
                self.child.wait()?;
                self.drain(sink)?;
                if overdue {
                    say("the guest did not power off; stopped");
                }
                self.outcome.end = self.told.map_or(End::TimedOut, |(status, _)| End::Exited(status));
                return Ok(());
            }
        }
    }

    /// Takes what is still in the sockets after QEMU's end.
    fn drain(&mut self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while let Ok(event) = self.inbox.recv_timeout(Duration::from_millis(50)) {
            self.handle(event, sink)?;
        }
        Ok(())
    }

    fn judge(&self, code: Option<i32>) -> End {
        let console = String::from_utf8_lossy(&self.outcome.console);
        match self.told {
            Some((status, _)) => End::Exited(status),
            None if code == Some(PANIC_EXIT) || console.to_lowercase().contains("kernel panic") => {
                End::Panicked
            }
            None => End::Vanished,
        }
    }

    fn handle(&mut self, event: Event, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match event {
            Event::Console(bytes) => {
                if self.verbose {
                    std::io::stderr().write_all(&bytes)?;
                }
                self.outcome.console.extend_from_slice(&bytes);
                self.read_messages();
            }
            Event::Output(bytes) => sink(&bytes)?,
            Event::Input(bytes) => self.waiting_input.push_back(bytes),
        }
        if self.may_send
            && let Some(piece) = self.waiting_input.pop_front()
        {
            let message = match self.input {
                Input::Terminal => piece,
                _ => [format!("{}\n", piece.len()).into_bytes(), piece].concat(),
            };
            // A guest that has stopped reading is not an error of ours.
            let _ = self.command.write_all(&message);
            self.may_send = self.input == Input::Terminal;
        }
        Ok(())
    }

    /// Looks for `/init`'s lines in what is new on the console.
    fn read_messages(&mut self) {
        while let Some(length) = self.outcome.console[self.searched..].iter().position(|byte| *byte == b'\n')
        {
            let line = String::from_utf8_lossy(&self.outcome.console[self.searched..self.searched + length]);
            let mark = format!("@linnet {} ", self.nonce);
            if let Some((_, message)) = line.split_once(&mark) {
                let message = message.trim_end();
                if message == "ready" {
                    self.may_send = true;
                } else if let Some(status) = message.strip_prefix("status=") {
                    self.told = Some((status.parse().unwrap_or(255), Instant::now()));
                }
            }
            self.searched += length + 1;
        }
    }
}

/// Reads a line into events until it closes.
fn forward(mut stream: UnixStream, events: Sender<Event>, make: fn(Vec<u8>) -> Event) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if events.send(make(buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
}

/// Reads our standard input into events; the last one is empty.
fn forward_stdin(events: Sender<Event>) {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin();
        let mut buffer = [0; 1024];
        loop {
            let count = stdin.read(&mut buffer).unwrap_or(0);
            if events.send(Event::Input(buffer[..count].to_vec())).is_err() || count == 0 {
                return;
            }
        }
    });
}

/// Rows and columns of our terminal, if there is one and it knows.
fn window_size() -> Option<(u16, u16)> {
    let output =
        Command::new("stty").arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    Some((rows.parse().ok().filter(|rows| *rows > 0)?, columns.parse().ok().filter(|columns| *columns > 0)?))
}

/// Our terminal in raw mode while it lives, so that keys reach the guest.
struct RawTerminal(String);

impl RawTerminal {
    fn enter() -> RawTerminal {
        let stty = |arguments: &[&str]| {
            Command::new("stty").args(arguments).stdin(Stdio::inherit()).stderr(Stdio::null()).output()
        };
        let saved = stty(&["-g"]).map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let _ = stty(&["raw", "-echo", "opost", "isig"]);
        RawTerminal(saved.unwrap_or_else(|_| "sane".to_owned()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = Command::new("stty").arg(&self.0).stdin(Stdio::inherit()).status();
    }
}

/// Waits for QEMU to connect; `None` if it ends before.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<Option<UnixStream>> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(Some(stream));
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if child.try_wait()?.is_some() {
                    return Ok(None);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A folder for one run, gone with it.
struct Files(PathBuf);

impl Files {
    fn new(initrd: &[u8]) -> Result<Files> {
        // A socket's path has at most 107 bytes, so it is not below a deep target directory.
        let dir = std::env::temp_dir().join(format!("linnet-{}-{}", std::process::id(), nonce()));
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let files = Files(dir);
        std::fs::write(files.path("initrd"), initrd)?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn listen(&self, name: &str) -> Result<UnixListener> {
        UnixListener::bind(self.path(name))
            .with_context(|| format!("listening at {}", self.path(name).display()))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Something the guest cannot guess, different for every run.
fn nonce() -> String {
    use std::hash::{BuildHasher, Hasher};
    let hasher = std::collections::hash_map::RandomState::new().build_hasher();
    format!("{:016x}", hasher.finish())
}

/// Keeps a console log below `target/` and says where.
pub fn keep_console(name: &str, console: &[u8]) -> Result<PathBuf> {
    let path = target_sub("consoles")?.join(format!("{name}.log"));
    std::fs::write(&path, console)?;
    Ok(path)
}
