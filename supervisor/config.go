package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"keyd/supervisor/child"
	"keyd/supervisor/notify"
)

// Exit statuses of children, see package child.
const (
	ExitPermanent = child.ExitPermanent
	ExitOrphaned  = child.ExitOrphaned
	ExitRenewed   = child.ExitRenewed
)

// MaxModules bounds the number of modules.
const MaxModules = 64

// DefaultDrainTimeout is how long a front may take to finish what it has begun.
const DefaultDrainTimeout = 10 * time.Second

// Config is what [Run] needs to know.
type Config struct {
	// Unlock fetches the token PIN and writes it into the PIN file. Unlike the
	// others it stays in the supervisor's process group, so that it can ask on
	// the controlling terminal (/dev/tty).
	Unlock Command

	// Provision, if any, runs once between Unlock and the first front. What it
	// writes to its output descriptor, a memory file, goes to the first front that
	// becomes ready and to no later one.
	Provision *Command

	// Renew, if any, runs every RenewEvery while the front and the modules do, one at a time,
	// each for at most two minutes. What it says is its exit status ([ExitRenewed] and the
	// like): whether Files that are Renewed are to be opened anew. Whether it succeeds or not,
	// everything else goes on.
	Renew      *Command
	RenewEvery time.Duration

	// Front and Module are the processes that stay. Modules is how many modules
	// there are, 1 to MaxModules.
	Front   Command
	Module  Command
	Modules int

	// Listen is the TCP address the front serves, "host:port". Port 0 takes a free
	// one, which stays the same until Run ends.
	Listen string

	// Admin is the loopback address, "host:port", of what the front serves besides:
	// metrics, health, profiles. Empty for none. Likewise bound here, see Listen.
	Admin string

	// Web is the address, "host:port", at which the front serves pages for phones. Empty for none.
	// Likewise bound here, see Listen.
	Web string

	// Files are opened anew at each value that comes from Reload, and handed to the
	// front, which is confined and could not open what has taken their place. They are
	// never read here. At most child.MaxFiles.
	Files  []Reloadable
	Reload <-chan os.Signal

	// DrainTimeout is how long the front may take to finish what it has begun when
	// everything stops. 0 is DefaultDrainTimeout.
	DrainTimeout time.Duration

	// LongestPause is how long a child that keeps failing waits at most before it is started
	// again. 0 is 5 s.
	LongestPause time.Duration

	// OnReady, if any, is called once, on a goroutine of its own, when the front and
	// at least one module are ready.
	OnReady func(listening net.Addr)

	// OnAdmin, if any, is called once with the address that Admin has been bound to.
	OnAdmin func(listening net.Addr)

	// Notify tells a service manager how everything stands. nil tells nobody.
	Notify *notify.Manager

	// Logger gets one record for each start, end and kill. Required.
	Logger *slog.Logger

	// Stderr is the children's standard error. nil is the supervisor's own.
	Stderr *os.File
}

// Command is how to run one kind of child.
type Command struct {
	// Args are the arguments after the program's name, such as "internal", "front".
	// The flags for descriptors are appended.
	Args []string

	// Env is the whole environment, as "NAME=value".
	Env []string

	// User is who the child runs as, without supplementary groups. Only a
	// supervisor that is root may name one; nil keeps the supervisor's own.
	User *User

	// Input, if any, is passed on as --input-fd. For Unlock, Renew and Provision only.
	// The supervisor neither reads nor closes it.
	Input *os.File

	// Files are passed on too, each with its flag. The supervisor neither reads nor closes
	// them. A front gets none that a module can write.
	Files []Inherited
}

// Reloadable is a file that can be replaced while the service runs.
type Reloadable struct {
	Name string // what it is to the front: "policy"
	Path string

	Renewed bool // Renew replaces it, or it is taken up together with what Renew replaces
}

// Inherited is a descriptor that a child is given, and the flag that names it to it.
type Inherited struct {
	Flag string // "--velocity-fd"
	File *os.File
}

// User is a numeric user and its group.
type User struct {
	UID, GID uint32
}

// validate says what is wrong with the configuration, and fills in defaults.
func (c *Config) validate() error {
	commands := map[string]*Command{"unlock": &c.Unlock, "front": &c.Front, "module": &c.Module}
	if c.Provision != nil {
		commands["provision"] = c.Provision
	}
	if c.Renew != nil {
		commands["renew"] = c.Renew
	}
	for name, command := range commands {
		switch {
		case len(command.Args) == 0:
			return fmt.Errorf("supervisor: the %s command has no arguments", name)
		case command.User != nil && os.Geteuid() != 0:
			return fmt.Errorf("supervisor: only root can run the %s as another user", name)
		case command.Input != nil && (name == "front" || name == "module"):
			return fmt.Errorf("supervisor: the %s takes no input descriptor", name)
		}
	}
	switch {
	case c.Modules < 1 || c.Modules > MaxModules:
		return fmt.Errorf("supervisor: %d modules; there can be 1 to %d", c.Modules, MaxModules)
	case c.Listen == "":
		return errors.New("supervisor: no address to listen on")
	case len(c.Files) > child.MaxFiles:
		return fmt.Errorf("supervisor: %d files; there can be %d", len(c.Files), child.MaxFiles)
	case c.Renew != nil && c.RenewEvery <= 0:
		return errors.New("supervisor: no interval for the renew command")
	case c.Logger == nil:
		return errors.New("supervisor: no logger")
	case c.DrainTimeout < 0 || c.LongestPause < 0:
		return errors.New("supervisor: the drain timeout or the longest pause is negative")
	case c.DrainTimeout == 0:
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	return nil
}
