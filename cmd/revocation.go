package cmd

import "github.com/imprint-oci/imprint/trust"

// trustSources is where what policies ask besides is asked.
func (s *session) trustSources() *trust.Sources { return &trust.Sources{} }
