"""What a network is, as data: any Keras model as a list of primitive steps.

graph.py            nested models are opened; shared layers appear once per call
plan.py             the model as a Plan: steps, constants, layers
openings.py         how a layer opens into steps; open_*.py: one function per kind of layer or operation
rules/              what a step computes, forward and backward
find.py             how layers are named
seen.py             what a place sees of the image
reach.py            how far each step reaches
receptive_field.py  which pixels each unit sees
sizes.py            the shapes of a network at any input size
work.py             multiply-accumulates of each layer
cost.py             work and memory of training and inference
"""
