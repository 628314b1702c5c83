package ksn

import "time"

// maxClean bounds the sequences that are remembered although the store has them: about
// 20 MB.
const maxClean = 1 << 18

// state is what is known of a sequence.
type state struct {
	counter uint32
	receipt []byte // nil if only the store has it
	at      time.Time
}

// memory is what is known of sequences. What the journal has and the states in the
// store have not, is in recent or in frozen, and must not be lost; the rest is a
// cache, of counters only. The ledger's lock guards it.
type memory struct {
	recent map[sequence]state // accepted since the last fold began
	frozen *frozen            // being folded, or nil

	// The cache is in two halves, as in package keys: what is asked for goes to the
	// young one; when that is full it becomes the old one, which is dropped.
	young, old map[sequence]uint32

	// epoch counts the times that something was dropped. What was read from the store
	// for a sequence that is not in memory is true as long as the epoch is the same:
	// a use that was accepted meanwhile would be in memory.
	epoch uint64
}

// frozen are sequences that are being folded. The map is not changed any more.
type frozen struct {
	states  map[sequence]state
	through uint64 // the newest row that they include
}

func newMemory(epoch uint64) memory {
	return memory{recent: map[sequence]state{}, young: map[sequence]uint32{}, epoch: epoch}
}

// get returns the state of a sequence, and false for one that is not in memory. The
// newest state is in the place that is looked at first.
func (m *memory) get(q sequence) (state, bool) {
	if s, ok := m.recent[q]; ok {
		return s, true
	}
	if m.frozen != nil {
		if s, ok := m.frozen.states[q]; ok {
			return s, true
		}
	}
	if counter, ok := m.young[q]; ok {
		return state{counter: counter}, true
	}
	if counter, ok := m.old[q]; ok {
		m.keep(q, counter)
		return state{counter: counter}, true
	}
	return state{}, false
}

// keep remembers what the store has of a sequence.
func (m *memory) keep(q sequence, counter uint32) {
	if len(m.young) >= maxClean/2 {
		m.old, m.young = m.young, make(map[sequence]uint32, maxClean/2)
		m.epoch++
	}
	delete(m.old, q)
	m.young[q] = counter
}

// unfolded returns the number of sequences that the states in the store lack.
func (m *memory) unfolded() int {
	if m.frozen == nil {
		return len(m.recent)
	}
	return len(m.recent) + len(m.frozen.states)
}

// size returns the number of sequences in memory.
func (m *memory) size() int { return m.unfolded() + len(m.young) + len(m.old) }

// judge returns the verdict on a request by what is pending, in memory and read from the
// store, in this order.
func (m *memory) judge(it *item, pending map[sequence]state, maxJump uint32) verdict {
	var all verdict
	for i := range it.spans {
		v := m.judgeSpan(it, i, pending, maxJump)
		if i == 0 {
			all = v
		}
		all = all.join(v)
	}
	return all
}

func (m *memory) judgeSpan(it *item, i int, pending map[sequence]state, maxJump uint32) verdict {
	part := &it.spans[i]
	if s, ok := pending[part.sequence]; ok {
		return part.judge(s.counter, true, maxJump)
	}
	if s, ok := m.get(part.sequence); ok {
		return part.judge(s.counter, true, maxJump)
	}
	if it.epoch != m.epoch || it.read[i].place == unread {
		return undecided
	}
	return part.judge(it.read[i].counter, it.read[i].place == inStore, maxJump)
}
