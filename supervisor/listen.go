package supervisor

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// listen binds the address. The socket is a plain file here, so that nothing in this
// process can come to accept from it.
func listen(ctx context.Context, address string) (*os.File, net.Addr, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // Landlock does not know it
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("supervisor: %w", err)
	}
	defer l.Close() //nolint:errcheck // a duplicate descriptor; nothing is buffered
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, nil, fmt.Errorf("supervisor: %s is not a TCP address", address)
	}
	f, err := tcp.File()
	if err != nil {
		return nil, nil, fmt.Errorf("supervisor: %w", err)
	}
	return f, l.Addr(), nil
}

// bound is a listening socket and where it is. file is nil after it could not be made
// anew.
type bound struct {
	file    *os.File
	address net.Addr
}

// bind listens on an address.
func bind(ctx context.Context, address string) (*bound, error) {
	f, at, err := listen(ctx, address)
	if err != nil {
		return nil, err
	}
	return &bound{f, at}, nil
}

func (b *bound) close() {
	if b != nil && b.file != nil {
		_ = b.file.Close()
	}
}

// mend makes a new listening socket on the same address if the present one
// no longer listens. A front shares the socket with the supervisor, and shutdown(2) of
// one is felt by all: without this, a taken-over front could disable every later one.
func (s *supervisor) mend(b *bound) error {
	if b.file != nil {
		if accepts, err := unix.GetsockoptInt(int(b.file.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && accepts != 0 {
			return nil
		}
		s.Logger.Warn("a front has shut the listening socket down; it is made anew", "address", b.address)
		_ = b.file.Close()
		b.file = nil
	}
	f, address, err := listen(context.Background(), b.address.String())
	if err != nil {
		return err // tried again at the next start
	}
	b.file, b.address = f, address
	return nil
}
