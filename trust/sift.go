package trust

import (
	"errors"
	"sync/atomic"

	"github.com/imprint-oci/imprint/registry"
)

const (
	// keptWhole is how many bytes of an artifact's signatures wait for judgment as they are.
	keptWhole = 1 << 20
	// maxTold is how long what a stranger's signature says of itself may be, as signed, to stand in a report.
	maxTold = 16 << 10
)

// A sieve judges signatures while they are read, and lets go of the bytes of those that no evidence can make count: anybody may attach
// a thousand of a megabyte each, and what is judged at the same time must not be bounded by what a registry has room for. What little is
// there as a rule waits for its judgment as it is.
type sieve struct {
	court func() court  // each with questions of its own
	slots chan struct{} // how many are parsed at a time: an envelope in parts is several times its size
	kept  atomic.Int64
}

func newSieve(court func() court) *sieve { return &sieve{court: court, slots: make(chan struct{}, 1)} }

// A heard is what stands in place of a signature that was judged.
type heard struct{ finding finding }

func (h *heard) Error() string { return "judged: " + h.finding.Reason }

// take lets go of what it can.
func (s *sieve) take(sig *registry.Signature) {
	if s.kept.Add(int64(len(sig.Manifest.Bytes)+len(sig.Envelope))) <= keptWhole {
		return
	}
	sig.Manifest.Bytes, sig.Annotations = nil, nil // nothing that is judged stands in it
	if sig.Err != nil {
		sig.Envelope = nil
		return
	}
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	c := s.court()
	f := c.judge(*sig)
	if f.trusted || f.stage > atRoot || c.scope != nil && c.scope.delegate != nil && f.stage > atEnvelope {
		return // a root is there, or a document may bring one
	}
	sig.Envelope, sig.Err = nil, &heard{f}
}

// alreadyHeard returns what was said of sig while it was read.
func alreadyHeard(sig registry.Signature) (finding, bool) {
	var h *heard
	if errors.As(sig.Err, &h) {
		return h.finding, true
	}
	return finding{}, false
}
