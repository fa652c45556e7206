package cmd

import "github.com/imprint-oci/imprint/copy"

// A progress tells a person on standard error how copies go on; nil tells nobody.
type progress struct{}

// newProgress begins to tell how what follows goes on: nil, nobody, with --quiet or -o json.
func (s *session) newProgress() *progress {
	if s.quiet || s.json {
		return nil
	}
	return &progress{}
}

// item returns who is told of the steps of one item, nil if nobody is. name is what a person calls it: its destination.
func (p *progress) item(name string) func(copy.Event) {
	if p == nil {
		return nil
	}
	return func(copy.Event) {}
}

// done says that an item is over, however it ended: what of it was under way is shown no more.
func (p *progress) done(name string) {}

// end says that all items are over.
func (p *progress) end() {}
