"""Classifiers that try to tell generated showers from reference showers: the CaloChallenge's and faster ones.

Start with :func:`caloray.evaluation.classifiers.run.run_classifiers`.
"""
