package cmd

import (
	"strings"
	"testing"
)

// What --timestamp-url refuses it does not repeat as far as it may be a secret.
func TestTimestampURLWithCredentials(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"http://user:secret@tsa.example/", "https://secret@tsa.example/", "http://:secret@tsa.example/", "http:user:secret@tsa.example", "http://user:secret@tsa.example:x/",
	} {
		if err := checkAuthority(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"http://tsa.example", "https://tsa.example/a?b=c", "http://[2606:4700::1]:8080/"} {
		if err := checkAuthority(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
