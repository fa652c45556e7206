// Package kmstest is the conformance test that every provider of keys passes.
package kmstest

import (
	"testing"

	"github.com/imprint-oci/imprint/kms"
)

// Run checks that key keeps the contract of [kms.Key].
func Run(t *testing.T, key kms.Key) { panic("door") }
