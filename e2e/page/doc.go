// Package page tests the page that audit writes in a real browser: Chromium, told what to do through a pipe.
package page
