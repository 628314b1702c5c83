package confine

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"
)

// The test binary runs itself, because confinement cannot be taken back. Its arguments
// are "confined", the part, a directory it may write, and the PID of a sibling.

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "confined" {
		if err := play(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// result is what a double reports: for each probe the error of every thread.
type result struct {
	Report Report
	Probes map[string]string
	Works  map[string]string
}

func play(part, dir, sibling string) error {
	switch part {
	case "sibling": // holds still, as a module of the same user would
		c, err := New(Module)
		if err != nil {
			return err
		}
		if err := c.Early(os.Getppid()); err != nil {
			return err
		}
		fmt.Println("still")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	case "orphan":
		c, err := New(Front)
		if err != nil {
			return err
		}
		if err := c.Early(os.Getppid() + 1); err == nil {
			return errors.New("a foreign parent was accepted")
		}
		return nil
	case "abort":
		if dir != "plain" {
			c, err := New(Kind(dir))
			if err != nil {
				return err
			}
			if err := c.Early(os.Getppid()); err != nil {
				return err
			}
		}
		if err := unix.Kill(os.Getpid(), unix.SIGQUIT); err != nil {
			return err
		}
		time.Sleep(time.Minute) // another thread may get the signal, a moment later
		return nil
	}
	return playConfined(part, dir, sibling)
}

func playConfined(part, dir, sibling string) error {
	kind, ports := Kind(part), []uint16(nil)
	if part == "network" {
		kind, ports = Module, []uint16{9}
	}
	if kind == Unlock {
		ports = []uint16{9}
	}
	// Threads that exist before, and a server as the front is given one.
	threads := newThreads(6)
	var serve func() error
	if kind == Front {
		var err error
		if serve, err = tlsServer(); err != nil {
			return err
		}
	}
	c, err := New(kind, ports...)
	if err != nil {
		return err
	}
	if err := c.Early(os.Getppid()); err != nil {
		return err
	}
	r := result{Probes: map[string]string{}, Works: map[string]string{}}
	for name, probe := range earlyProbes(kind, sibling) {
		r.Probes[name] = threads.run(probe)
	}
	if err := c.Filesystem(Paths{WriteDirs: []string{dir}, ReadFiles: []string{"/etc/hostname"}}); err != nil {
		return err
	}
	for name, probe := range filesystemProbes(dir, sibling) {
		r.Probes[name] = threads.run(probe)
	}
	if err := c.Syscalls(); err != nil {
		return err
	}
	threads.add(6) // and some that are born confined
	for name, probe := range syscallProbes(sibling) {
		r.Probes[name] = threads.run(probe)
	}
	for name, work := range works(dir) {
		if err := work(); err != nil {
			r.Works[name] = err.Error()
		}
	}
	if kind == Unlock {
		if err := publishPair(dir); err != nil {
			r.Works["a pair"] = err.Error()
		}
	}
	if kind == Front {
		if err := sqlite(filepath.Join(dir, "db")); err != nil {
			r.Works["sqlite"] = err.Error()
		}
		if err := serve(); err != nil {
			r.Works["tls"] = err.Error()
		}
	}
	r.Report = c.Report()
	return json.NewEncoder(os.Stdout).Encode(r)
}

// publishPair is what an unlock does with a certificate and its key: a file of another user,
// where it may, and a link that takes the place of another.
func publishPair(dir string) error {
	version := filepath.Join(dir, "v-1")
	key, link := filepath.Join(version, "key.pem"), filepath.Join(dir, "next")
	owner := -1
	if os.Getuid() == 0 {
		owner = 65001
	}
	f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(f.Chmod(0o640), f.Chown(owner, owner), f.Sync(), f.Close(), os.Mkdir(version, 0o700), os.Chmod(version, 0o755),
		os.Rename(f.Name(), filepath.Join(dir, "renamed")), os.WriteFile(key, nil, 0o600))
	for range 2 {
		err = errors.Join(err, os.Symlink("v-1", link), os.Rename(link, filepath.Join(dir, "current")))
	}
	return errors.Join(err, os.Remove(key), os.Remove(version))
}

// threads are operating system threads that each run what they are given.
type threads struct{ jobs []chan func() }

func newThreads(n int) *threads {
	t := new(threads)
	t.add(n)
	return t
}

func (t *threads) add(n int) {
	for range n {
		jobs := make(chan func())
		t.jobs = append(t.jobs, jobs)
		go func() {
			runtime.LockOSThread()
			for job := range jobs {
				job()
			}
		}()
	}
}

// run returns the error that all threads got, or all of them if they differ.
func (t *threads) run(probe func() error) string {
	results := make([]string, len(t.jobs))
	var wait sync.WaitGroup
	for i, jobs := range t.jobs {
		wait.Add(1)
		jobs <- func() {
			defer wait.Done()
			results[i] = name(probe())
		}
	}
	wait.Wait()
	for _, r := range results {
		if r != results[0] {
			return fmt.Sprint("threads differ: ", results)
		}
	}
	return results[0]
}

func name(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "allowed"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func open(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func call(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	r, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	switch number { // take back what should have been refused
	case unix.SYS_SOCKET, unix.SYS_MEMFD_CREATE:
		_ = unix.Close(int(r))
	}
	return nil
}

func earlyProbes(kind Kind, sibling string) map[string]func() error {
	return map[string]func() error{
		"early: memory of a sibling": func() error { return open("/proc/" + sibling + "/mem") },
		"early: own privileges": func() error {
			if nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || nnp != 1 {
				return errors.New("thread may gain privileges")
			}
			has, err := capabilities()
			allowed := uint64(1 << unix.CAP_IPC_LOCK)
			if kind == Unlock {
				allowed |= 1 << unix.CAP_CHOWN
			}
			if err == nil && has&^allowed != 0 {
				err = fmt.Errorf("thread has capabilities %x", has)
			}
			return err
		},
		"early: dumpable": func() error {
			if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 0 {
				return errors.New("process is dumpable")
			}
			return nil
		},
		"early: raise core limit": func() error {
			return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})
		},
	}
}

func filesystemProbes(dir, sibling string) map[string]func() error {
	return map[string]func() error{
		"files: outside":             func() error { return open("/etc/passwd") },
		"files: memory of a sibling": func() error { return open("/proc/" + sibling + "/mem") },
		"files: own memory":          func() error { return open("/proc/self/mem") },
		"files: named file":          func() error { return open("/etc/hostname") },
		"files: own directory":       func() error { return open(dir) },
		"files: exec": func() error {
			_, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
			return err
		},
		"files: connect": func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9})
		},
		"files: signal":               func() error { return unix.Kill(os.Getppid(), 0) },
		"files: signal an own thread": func() error { return unix.Tgkill(os.Getpid(), os.Getpid(), 0) }, // Go's pre-emption
		"files: bind": func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
			return err
		},
	}
}

func syscallProbes(sibling string) map[string]func() error {
	pid, _ := strconv.Atoi(sibling)
	path := []byte("/bin/true\x00")
	iov := make([]byte, 8)
	return map[string]func() error{
		"signal an own thread": func() error { return unix.Tgkill(os.Getpid(), os.Getpid(), unix.SIGURG) },
		"execve":               func() error { return call(unix.SYS_EXECVE, uintptr(unsafe.Pointer(&path[0])), 0, 0) },
		"execveat": func() error {
			return call(unix.SYS_EXECVEAT, uintptr(1<<64-100), uintptr(unsafe.Pointer(&path[0])), 0, 0, 0)
		},
		"start a process": func() error {
			_, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
			return err
		},
		"ptrace": func() error { return call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(pid)) },
		"process_vm_readv": func() error {
			return call(unix.SYS_PROCESS_VM_READV, uintptr(pid), uintptr(unsafe.Pointer(&iov[0])), 0, 0, 0, 0)
		},
		"pidfd_getfd":        func() error { return call(unix.SYS_PIDFD_GETFD, 1000, 0, 0) },
		"clone3":             func() error { return call(unix.SYS_CLONE3, 0, 0) },
		"bpf":                func() error { return call(unix.SYS_BPF, 0, 0, 0) },
		"io_uring_setup":     func() error { return call(unix.SYS_IO_URING_SETUP, 1, 0) },
		"unshare":            func() error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER) },
		"mount":              func() error { return call(unix.SYS_MOUNT, 0, 0, 0, 0, 0) },
		"keyctl":             func() error { return call(unix.SYS_KEYCTL, 0, 0, 0, 0, 0) },
		"memfd_create":       func() error { return call(unix.SYS_MEMFD_CREATE, uintptr(unsafe.Pointer(&path[0])), 0) },
		"socket inet":        func() error { return call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0) },
		"socket unix":        func() error { return call(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0) },
		"socket mptcp":       func() error { return call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) },
		"socket mptcp, wide": func() error { return call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 1<<32|unix.IPPROTO_MPTCP) },
		"bind":               func() error { return call(unix.SYS_BIND, 0, 0, 0) },
		"listen":             func() error { return call(unix.SYS_LISTEN, 0, 0) },
		"dumpable":           func() error { return call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1) },
		"dumpable, wide":     func() error { return call(unix.SYS_PRCTL, 1<<32|unix.PR_SET_DUMPABLE, 1) },
		"kill the parent":    func() error { return call(unix.SYS_KILL, uintptr(os.Getppid()), 0) },
		"newer than known":   func() error { return call(newestKnown + 1) },
		"own a descriptor":   func() error { return call(unix.SYS_FCNTL, 0, unix.F_SETOWN, uintptr(os.Getpid())) },
		"signal by descriptor": func() error {
			flags, err := unix.FcntlInt(0, unix.F_GETFL, 0)
			if err != nil {
				return err
			}
			return call(unix.SYS_FCNTL, 0, unix.F_SETFL, uintptr(flags|unix.O_ASYNC))
		},
		"duplicate": func() error {
			fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		},
		"write and execute": func() error {
			return call(unix.SYS_MMAP, 0, 4096, unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, uintptr(1<<64-1), 0)
		},
		"execute": func() error {
			return call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, uintptr(1<<64-1), 0)
		},
	}
}

// works is what the process must still be able to do.
func works(dir string) map[string]func() error {
	return map[string]func() error{
		"timers": func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			<-ctx.Done()
			return nil
		},
		"files": func() error {
			path := filepath.Join(dir, "file")
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				return err
			}
			if err := os.Rename(path, path+"2"); err != nil {
				return err
			}
			if _, err := os.ReadDir(dir); err != nil {
				return err
			}
			return os.Remove(path + "2")
		},
		"memory and its collection": func() error {
			var kept [][]byte
			for range 64 {
				kept = append(kept, make([]byte, 1<<20))
			}
			runtime.GC()
			runtime.KeepAlive(kept)
			return nil
		},
		"pre-emption": func() error {
			// More busy threads than processors: the runtime stops them by signals.
			stop := make(chan struct{})
			for range 2 * runtime.GOMAXPROCS(0) {
				go func() {
					for n := 0; ; n++ {
						if n%(1<<20) == 0 {
							select {
							case <-stop:
								return
							default:
							}
						}
					}
				}()
			}
			runtime.GC()
			close(stop)
			return nil
		},
		"pipes": func() error {
			r, w, err := os.Pipe()
			if err != nil {
				return err
			}
			defer r.Close()
			go func() { _, _ = w.WriteString("x"); _ = w.Close() }()
			_, err = io.ReadAll(r)
			return err
		},
	}
}

// sqlite uses a database as the store does.
func sqlite(path string) error {
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(4)
	if _, err := db.Exec("CREATE TABLE t (n INTEGER)"); err != nil {
		return err
	}
	var clients sync.WaitGroup
	faults := make([]error, 4)
	for c := range faults {
		clients.Go(func() {
			for n := range 25 {
				if _, err := db.Exec("INSERT INTO t VALUES (?)", n); err != nil {
					faults[c] = err
					return
				}
			}
		})
	}
	clients.Wait()
	if err := errors.Join(faults...); err != nil {
		return err
	}
	var mode string
	var count int
	if err := db.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if err := db.QueryRow("SELECT count(*) FROM t").Scan(&count); err != nil {
		return err
	}
	if mode != "wal" || count != 100 {
		return fmt.Errorf("journal mode %s, %d rows", mode, count)
	}
	_, err = db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// tlsServer makes a listener and tells its address on descriptor 3; the function it
// returns answers one client.
func tlsServer() (func() error, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "front"}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"front"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(os.Stderr, l.Addr()); err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func() error {
		defer l.Close()
		conn, err := tls.NewListener(l, config).Accept()
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = io.CopyN(conn, conn, 4)
		return err
	}, nil
}

// command runs a part of the test binary.
func command(part, dir, sibling string) *exec.Cmd {
	return exec.Command("/proc/self/exe", "confined", part, dir, sibling)
}
