package child

import (
	"encoding/binary"
	"time"
)

// Roles of a child.
const (
	RoleFront  = "front"
	RoleModule = "module"
)

// Types of a [Message].
const (
	TypeChannel = "channel" // a new socket between the front and a module; one descriptor
	TypePing    = "ping"    // to be answered
	TypeStop    = "stop"    // drain and end
	TypeState   = "state"   // to the front: how everything stands
	TypeReload  = "reload"  // to the front: files opened anew; a descriptor for each that could be
)

// MaxMessage bounds a message towards a child, in bytes.
const MaxMessage = 64 << 10

// MaxFiles bounds the files of a reload.
const MaxFiles = 8

// Message is what the supervisor says. Seq belongs to pings and reloads, Module to
// channels.
type Message struct {
	Type   string  `json:"type"`
	Module int     `json:"module,omitempty"`
	Seq    uint32  `json:"seq,omitempty"`
	State  *State  `json:"state,omitempty"`
	Reload *Reload `json:"reload,omitempty"`
}

// Reload is the files of a reload, 1 to [MaxFiles] of them.
type Reload struct {
	Files []ReloadFile `json:"files"`
}

// ReloadFile is one file. Its descriptor comes with the message, in the order of the
// list, unless Error says why it could not be opened.
type ReloadFile struct {
	Name  string `json:"name"` // what it is: "policy"
	Path  string `json:"path"` // for messages
	Error string `json:"error,omitempty"`
}

// descriptors returns how many come with the message.
func (r *Reload) descriptors() (n int) {
	for _, f := range r.Files {
		if f.Error == "" {
			n++
		}
	}
	return n
}

// State is how the supervisor and its children stand; the front shows it to operators.
type State struct {
	Children []ChildState `json:"children"`
	// PINMemory is where the token PIN waits for modules: "memfd_secret" (out of every
	// other process's reach, never in swap) or "memfd".
	PINMemory string `json:"pin_memory"`
}

// Phase is where a child is in its life.
type Phase string

// The phases.
const (
	PhaseWaiting  Phase = "waiting"  // to be started, after a pause or after another module
	PhaseStarting Phase = "starting" // runs, not ready yet
	PhaseReady    Phase = "ready"
	PhaseStopping Phase = "stopping" // told to stop, or killed
	PhaseEnded    Phase = "ended"    // and not to be started again
)

// ChildState is how one child stands.
type ChildState struct {
	Role     string    `json:"role"`
	Index    int       `json:"index"` // of a module, from 0
	PID      int       `json:"pid,omitempty"`
	Phase    Phase     `json:"phase"`
	Restarts int       `json:"restarts"`            // since the supervisor started
	LastExit string    `json:"last_exit,omitempty"` // how the process before this one ended
	Since    time.Time `json:"since"`               // when it entered the phase
}

// SignalSize is the size in bytes of everything a child may say.
const SignalSize = 5

// Signals of a child.
const (
	SignalReady  = 'R'
	SignalPong   = 'P'
	SignalLoaded = 'L' // a front goes on with what a reload brought
	SignalKept   = 'K' // a front keeps something that it had: a reload brought what is wrong
)

// EncodeSignal returns a signal. seq is 0 for [SignalReady], and the number of the ping or
// the reload for the others.
func EncodeSignal(kind byte, seq uint32) [SignalSize]byte {
	b := [SignalSize]byte{kind}
	binary.BigEndian.PutUint32(b[1:], seq)
	return b
}

// ParseSignal reads a signal; what is none is refused.
func ParseSignal(b []byte) (kind byte, seq uint32, ok bool) {
	if len(b) != SignalSize {
		return 0, 0, false
	}
	kind, seq = b[0], binary.BigEndian.Uint32(b[1:])
	if kind == SignalPong || kind == SignalLoaded || kind == SignalKept || (kind == SignalReady && seq == 0) {
		return kind, seq, true
	}
	return 0, 0, false
}
