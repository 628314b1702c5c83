package hsm

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"

	"keyd/hsm/internal/wire"
)

// ReadProvisioned reads the sealed keys that a provisioning process hands to the
// front. Where a name comes more than once, the last counts. On error nothing is
// returned.
func ReadProvisioned(r io.Reader) ([]Key, error) {
	var keys []Key
	index := make(map[string]int)
	in := bufio.NewReader(r)
	for {
		var m wire.SealedKey
		err := protodelim.UnmarshalOptions{MaxSize: MaxSealedSize + 1024}.UnmarshalFrom(in, &m)
		if errors.Is(err, io.EOF) {
			return keys, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read provisioned keys: %w", err)
		}
		key := Key{Name: m.Name, Sealed: m.Sealed}
		if i, ok := index[key.Name]; ok {
			keys[i] = key
			continue
		}
		index[key.Name] = len(keys)
		keys = append(keys, key)
	}
}
