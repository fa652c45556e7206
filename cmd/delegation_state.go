package cmd

import "path/filepath"

// delegationState is the file of the delegation documents that were believed before, which is no cache: without it an older document
// could be shown again. It is in IMPRINT_STATE, else in the user's state folder (XDG base directory specification). "" where the
// environment names neither, as for a service without a home: then a policy's min-version alone holds, and reports say so.
func (s *session) delegationState() string {
	const name = "delegations.json"
	if dir := s.env.Getenv("IMPRINT_STATE"); dir != "" {
		return filepath.Join(dir, name)
	}
	if dir := s.env.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) { // what is relative is to be ignored
		return filepath.Join(dir, "imprint", name)
	}
	if home := s.env.home(); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "imprint", name)
	}
	return ""
}
