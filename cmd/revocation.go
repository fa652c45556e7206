package cmd

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/signer"
	"github.com/imprint-oci/imprint/trust"
)

// revocationFlags say by which lists certificates are revoked in this run, and whether anybody is asked.
type revocationFlags struct {
	crl     []string
	offline bool
}

func (r *revocationFlags) bind(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&r.crl, "crl", nil, "refuse what the revocation lists in `FILE|DIR` revoke")
	f.BoolVar(&r.offline, "offline", false, "ask nobody about revocation and delegation")
}

// lists reads the lists of --crl, once in a run; nil: none is given.
func (r revocationFlags) lists(s *session) (*trust.Lists, error) {
	if len(r.crl) == 0 || s.lists != nil {
		return s.lists, nil
	}
	lists, err := trust.ReadLists(r.crl)
	if err != nil {
		return nil, err
	}
	s.lists = lists
	return lists, nil
}

// trustSources is where what a policy asks besides is looked up: one for the run, which asks each question once. With --offline nobody
// is asked.
func (s *session) trustSources() *trust.Sources {
	s.mu.Lock()
	known := s.asked
	s.mu.Unlock()
	if known != nil {
		return known
	}
	sources := &trust.Sources{Cache: s.revocationCache(), State: s.delegationState(), Warn: s.warn}
	if f := s.command.Flags().Lookup("offline"); f == nil || f.Value.String() != "true" {
		sources.HTTP, sources.Open = s.outside().HTTP(), s.open
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = sources
	}
	return s.asked
}

// revocationCache is the folder of the revocation lists that were fetched: in IMPRINT_CACHE, else in the user's cache folder (XDG base
// directory specification). "" where the environment names neither: then each run fetches its own.
func (s *session) revocationCache() string {
	const name = "crl"
	if dir := s.env.Getenv("IMPRINT_CACHE"); dir != "" {
		return filepath.Join(dir, name)
	}
	if dir := s.env.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) { // what is relative is to be ignored
		return filepath.Join(dir, "imprint", name)
	}
	if home := s.env.home(); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "imprint", name)
	}
	return ""
}

// unrevoked refuses a plan whose chain the lists of --crl revoke, whatever a policy says of it: it would be written to be refused.
func (g gate) unrevoked(p signer.Plan, err error) (signer.Plan, error) {
	if err != nil || g.lists == nil {
		return p, err
	}
	chain := p.Present()
	switch p.Status {
	case signer.StatusPlanned, signer.StatusThere, signer.StatusUnchanged:
		if e := p.Envelope(); e != nil {
			chain = e.Unverified().Chain
		}
	default:
		return p, nil
	}
	if err := g.lists.Check(chain, g.now); err != nil {
		err = &revokedChain{p.Signature.String(), err}
		p.Status, p.Reason, p.Detail = signer.StatusSkipped, reason(err), err.Error()
		return p, err
	}
	return p, nil
}

// A revokedChain is that a new chain is revoked, or may be.
type revokedChain struct {
	signature string
	err       error
}

func (e *revokedChain) Error() string {
	return "rechaining signature " + e.signature + ": the new chain is refused: " + e.err.Error()
}
func (e *revokedChain) Unwrap() error { return e.err }
