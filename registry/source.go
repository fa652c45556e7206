package registry

import (
	"fmt"
	"io"
	"sync"
)

// A source is a body on its way out that remembers why it could not be read: then not the registry is at fault, and
// trying again is not for us to decide.
type source struct {
	rc io.ReadCloser

	mu  sync.Mutex // net/http reads in a goroutine of its own
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.rc.Read(p)
	if err != nil && err != io.EOF {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
	}
	return n, err
}

func (s *source) Close() error { return s.rc.Close() }

func (s *source) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// A sourceError wraps why the source of an upload failed.
type sourceError struct{ err error }

func (e *sourceError) Error() string        { return fmt.Sprintf("%s: %s", errSource, e.err) }
func (e *sourceError) Unwrap() error        { return e.err }
func (e *sourceError) Is(target error) bool { return target == errSource }
