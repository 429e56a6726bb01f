"""What operators compute, written once on the Array API and shared by the executors.

`call` is what is known of a node before it runs, `backend` what an array library must offer beyond
the Array API standard (data-apis.org/array-api), `draws` the random numbers. Operator families
register in `registry`; `families` imports them all and has the table.

An executor runs the table with a backend of its own, and puts faster implementations over it where
it has them. Shapes are static, so everything that follows from shapes is computed in Python while
a node is built, never on a device.
"""
